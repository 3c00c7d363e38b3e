//! [`Picture`]: a recorded graph as DOT, for Graphviz, and as SVG.
//!
//! The layout is Sugiyama's: nodes in rows by their distance from the result, edges over several rows bent at waypoints,
//! each row ordered by the mean place of its neighbours, and then moved towards them.

use super::{GraphNode, graph};
use crate::{Backend, Error, Result, Tensor};
use std::{
    collections::{HashMap, HashSet},
    fmt::Write,
};

/// A drawing of the graph that a tensor was computed by.
///
/// ```
/// use isograd::{Tensor, autograd, autograd::Picture};
/// let ctx = isograd::device("cpu")?;
/// let x = Tensor::from_slice(&ctx, &[1.0f32, 2.0], [2])?;
/// x.attach_grad()?;
/// let y = autograd::record(|| x.tanh()?.mul(&x))?;
/// let picture = Picture::of(&y)?.name(&x, "x");
/// assert!(picture.dot().starts_with("digraph"));
/// assert!(picture.svg().contains("tanh"));
/// # Ok::<(), isograd::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Picture {
    /// Highest number first: every node comes before what it was computed from.
    nodes: Vec<GraphNode>,
    names: HashMap<u64, String>,
}

impl Picture {
    /// The graph of `head`, which must have been recorded.
    ///
    /// # Errors
    /// [`Error::NotRecorded`].
    pub fn of<B: Backend>(head: &Tensor<B>) -> Result<Picture> {
        let nodes = graph(head);
        if nodes.is_empty() {
            return Err(Error::NotRecorded {
                op: "Picture::of",
                what: "the tensor".into(),
                shape: head.shape().clone(),
                device: head.ctx().name(),
            });
        }
        Ok(Picture { nodes, names: HashMap::new() })
    }

    /// Calls the variable or result `tensor` by `name`; nothing happens when it is not part of the graph.
    #[must_use]
    pub fn name<B: Backend>(mut self, tensor: &Tensor<B>, name: &str) -> Picture {
        if let Some(node) = tensor.node() {
            self.names.insert(super::tape::AnyNode::id(&*node), name.to_string());
        }
        self
    }

    /// The nodes, the result first.
    pub fn nodes(&self) -> &[GraphNode] {
        &self.nodes
    }

    /// What stands in a node: operator or name, then shape and dtype.
    fn text(&self, node: &GraphNode) -> [String; 2] {
        let name = match (self.names.get(&node.id), is_variable(node)) {
            (Some(name), true) => name.clone(),
            (Some(name), false) => format!("{name} = {}", node.name),
            (None, _) => node.name.to_string(),
        };
        [name, format!("{:?} {}", node.shape, node.dtype)]
    }

    /// For Graphviz: `dot -Tpdf`.
    pub fn dot(&self) -> String {
        let escaped = |text: String| text.replace('\\', "\\\\").replace('"', "\\\"");
        let mut dot = "digraph {\n  node [shape=box, fontname=\"sans-serif\", fontsize=11];\n".to_string();
        for node in &self.nodes {
            let [name, shape] = self.text(node).map(escaped);
            let style = if is_variable(node) { ", style=\"rounded,filled\", fillcolor=\"#dce9f7\"" } else { "" };
            _ = writeln!(dot, "  n{} [label=\"{name}\\n{shape}\"{style}];", node.id);
        }
        for node in &self.nodes {
            node.parents.iter().for_each(|parent| _ = writeln!(dot, "  n{parent} -> n{};", node.id));
        }
        dot + "}\n"
    }

    /// A picture of its own: variables above, the result below.
    pub fn svg(&self) -> String {
        Layout::new(self).svg(self)
    }
}

fn is_variable(node: &GraphNode) -> bool {
    node.parents.is_empty()
}

const ROW: f64 = 74.0;
const BOX: f64 = 38.0;
const GAP: f64 = 18.0;
const MARGIN: f64 = 16.0;

/// A node of the graph, or a waypoint of an edge that passes a row.
struct Item {
    /// The place among the picture's nodes.
    node: Option<usize>,
    width: f64,
    /// The centre.
    x: f64,
    row: usize,
    above: Vec<usize>,
    below: Vec<usize>,
}

struct Layout {
    items: Vec<Item>,
    /// The items of each row from left to right, the uppermost row first.
    rows: Vec<Vec<usize>>,
    width: f64,
}

impl Layout {
    fn new(picture: &Picture) -> Layout {
        let nodes = &picture.nodes;
        let at: HashMap<u64, usize> = nodes.iter().enumerate().map(|(i, n)| (n.id, i)).collect();
        // The distance from the result, along the longest way; nodes come before their parents.
        let mut depth = vec![0; nodes.len()];
        for (i, node) in nodes.iter().enumerate() {
            for parent in node.parents.iter().filter_map(|p| at.get(p)) {
                depth[*parent] = depth[*parent].max(depth[i] + 1);
            }
        }
        let last = depth.iter().copied().max().unwrap_or(0);
        let width = |node: &GraphNode| {
            let letters = picture.text(node).iter().map(|t| t.chars().count()).max().unwrap_or(0);
            (letters as f64 * 6.6 + 18.0).max(48.0)
        };
        let item = |node: Option<usize>, width: f64, row: usize| Item {
            node,
            width,
            x: 0.0,
            row,
            above: Vec::new(),
            below: Vec::new(),
        };
        let mut items: Vec<Item> =
            nodes.iter().enumerate().map(|(i, n)| item(Some(i), width(n), last - depth[i])).collect();
        for (i, node) in nodes.iter().enumerate() {
            // A node that is used twice by one operator has one line.
            let parents: HashSet<usize> = node.parents.iter().filter_map(|p| at.get(p).copied()).collect();
            let mut parents: Vec<usize> = parents.into_iter().collect();
            parents.sort_unstable();
            for parent in parents {
                let mut from = parent;
                for row in items[parent].row + 1..items[i].row {
                    items.push(item(None, 6.0, row));
                    let waypoint = items.len() - 1;
                    connect(&mut items, from, waypoint);
                    from = waypoint;
                }
                connect(&mut items, from, i);
            }
        }
        let mut rows = vec![Vec::new(); last + 1];
        // From the result up, so that the first order is that in which the operators name their inputs.
        let mut pending = vec![0];
        let mut seen = HashSet::from([0]);
        while let Some(i) = pending.pop() {
            rows[items[i].row].push(i);
            pending.extend(items[i].above.iter().rev().copied().filter(|a| seen.insert(*a)));
        }
        let mut layout = Layout { items, rows, width: 0.0 };
        layout.order();
        layout.place();
        layout
    }

    fn mean(&self, of: &[usize], value: impl Fn(usize) -> f64) -> Option<f64> {
        (!of.is_empty()).then(|| of.iter().map(|&i| value(i)).sum::<f64>() / of.len() as f64)
    }

    /// Fewer crossings: each row by the mean place of its neighbours in the row before, from above and from below in turn.
    fn order(&mut self) {
        for sweep in 0..12 {
            let mut place = vec![0.0; self.items.len()];
            for row in &self.rows {
                row.iter().enumerate().for_each(|(k, &i)| place[i] = k as f64);
            }
            let down = sweep % 2 == 0;
            let order: Vec<usize> =
                if down { (1..self.rows.len()).collect() } else { (0..self.rows.len()).rev().collect() };
            for r in order {
                let mut keyed: Vec<(f64, usize)> = Vec::with_capacity(self.rows[r].len());
                for &i in &self.rows[r] {
                    let neighbours = if down { &self.items[i].above } else { &self.items[i].below };
                    keyed.push((self.mean(neighbours, |n| place[n]).unwrap_or(place[i]), i));
                }
                keyed.sort_by(|a, b| a.0.total_cmp(&b.0));
                self.rows[r] = keyed.into_iter().map(|(_, i)| i).collect();
                self.rows[r].iter().enumerate().for_each(|(k, &i)| place[i] = k as f64);
            }
        }
    }

    /// Places along the rows: towards the neighbours, as far as there is room.
    fn place(&mut self) {
        for row in &self.rows {
            let mut x = 0.0;
            for &i in row {
                self.items[i].x = x + self.items[i].width / 2.0;
                x += self.items[i].width + GAP;
            }
        }
        for sweep in 0..24 {
            let down = sweep % 2 == 0;
            let order: Vec<usize> =
                if down { (0..self.rows.len()).collect() } else { (0..self.rows.len()).rev().collect() };
            for r in order {
                let row = self.rows[r].clone();
                let wanted: Vec<f64> = row
                    .iter()
                    .map(|&i| {
                        let item = &self.items[i];
                        let neighbours = if down { &item.above } else { &item.below };
                        self.mean(neighbours, |n| self.items[n].x).unwrap_or(item.x)
                    })
                    .collect();
                let apart = |a: usize, b: usize| (self.items[a].width + self.items[b].width) / 2.0 + GAP;
                // Pushed to the right, and pushed to the left; the mean of both keeps the distances too.
                let (mut right, mut left) = (wanted.clone(), wanted);
                for k in 1..row.len() {
                    right[k] = right[k].max(right[k - 1] + apart(row[k - 1], row[k]));
                }
                for k in (1..row.len()).rev() {
                    left[k - 1] = left[k - 1].min(left[k] - apart(row[k - 1], row[k]));
                }
                row.iter().enumerate().for_each(|(k, &i)| self.items[i].x = (right[k] + left[k]) / 2.0);
            }
        }
        let leftmost = self.items.iter().map(|i| i.x - i.width / 2.0).fold(f64::INFINITY, f64::min);
        self.items.iter_mut().for_each(|i| i.x += MARGIN - leftmost);
        self.width = self.items.iter().map(|i| i.x + i.width / 2.0).fold(0.0, f64::max) + MARGIN;
    }

    fn svg(&self, picture: &Picture) -> String {
        let (width, height) = (self.width, self.rows.len() as f64 * ROW - (ROW - BOX) + 2.0 * MARGIN);
        let top = |item: &Item| MARGIN + item.row as f64 * ROW;
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width:.0}\" height=\"{height:.0}\" \
             viewBox=\"0 0 {width:.0} {height:.0}\" font-family=\"sans-serif\" font-size=\"11\" text-anchor=\"middle\">\n\
             <defs><marker id=\"arrow\" viewBox=\"0 0 8 8\" refX=\"7\" refY=\"4\" markerWidth=\"7\" markerHeight=\"7\" \
             orient=\"auto\"><path d=\"M0 0L8 4L0 8z\" fill=\"#555\"/></marker></defs>\n\
             <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
        );
        for item in self.items.iter().filter(|i| i.node.is_some()) {
            for &next in &item.below {
                let (mut x, mut y) = (item.x, top(item) + BOX);
                let mut path = format!("M{x:.1} {y:.1}");
                let mut at = next;
                loop {
                    let to = &self.items[at];
                    let (tx, ty) = (to.x, top(to));
                    let middle = (y + ty) / 2.0;
                    _ = write!(path, "C{x:.1} {middle:.1} {tx:.1} {middle:.1} {tx:.1} {ty:.1}");
                    if to.node.is_some() {
                        break;
                    }
                    (x, y) = (tx, ty + BOX);
                    _ = write!(path, "L{x:.1} {y:.1}");
                    at = to.below[0];
                }
                _ = writeln!(svg, "<path d=\"{path}\" fill=\"none\" stroke=\"#555\" marker-end=\"url(#arrow)\"/>");
            }
        }
        for item in &self.items {
            let Some(node) = item.node.map(|i| &picture.nodes[i]) else { continue };
            let [name, shape] = picture
                .text(node)
                .map(|t| t.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;"));
            let (x, y) = (item.x - item.width / 2.0, top(item));
            let (fill, corner) = if is_variable(node) { ("#dce9f7", 14) } else { ("#f4f4f4", 4) };
            let border = if node.id == picture.nodes[0].id { 2 } else { 1 };
            _ = writeln!(
                svg,
                "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{:.1}\" height=\"{BOX}\" rx=\"{corner}\" fill=\"{fill}\" \
                 stroke=\"#333\" stroke-width=\"{border}\"/>\n\
                 <text x=\"{:.1}\" y=\"{:.1}\" font-weight=\"bold\">{name}</text>\
                 <text x=\"{:.1}\" y=\"{:.1}\" fill=\"#555\">{shape}</text>",
                item.width,
                item.x,
                y + 16.0,
                item.x,
                y + 30.0
            );
        }
        svg + "</svg>\n"
    }
}

fn connect(items: &mut [Item], above: usize, below: usize) {
    items[above].below.push(below);
    items[below].above.push(above);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(id: u64, parents: &[u64]) -> GraphNode {
        let name = if parents.is_empty() { "variable" } else { "op" };
        GraphNode { id, name, shape: [2, 3].into(), dtype: crate::DType::F32, parents: parents.to_vec() }
    }

    fn picture(edges: &[(u64, &[u64])]) -> Picture {
        let mut nodes: Vec<GraphNode> = edges.iter().map(|(id, parents)| node(*id, parents)).collect();
        nodes.sort_by_key(|n| std::cmp::Reverse(n.id));
        Picture { nodes, names: HashMap::from([(1, "a < \"b\"".to_string())]) }
    }

    #[test]
    fn boxes_do_not_overlap_and_lines_go_down() {
        let picture = picture(&[
            (1, &[]),
            (2, &[]),
            (3, &[1, 2]),
            (4, &[]),
            (5, &[3, 4]),
            (6, &[5, 1]),
            (7, &[6, 6]),
            (8, &[7, 3, 2]),
        ]);
        let layout = Layout::new(&picture);
        for row in &layout.rows {
            for pair in row.windows(2) {
                let [a, b] = [&layout.items[pair[0]], &layout.items[pair[1]]];
                assert!(a.x + a.width / 2.0 < b.x - b.width / 2.0);
            }
        }
        for item in &layout.items {
            assert!(item.below.iter().all(|&i| layout.items[i].row == item.row + 1));
            assert!(item.x - item.width / 2.0 >= 0.0 && item.x + item.width / 2.0 <= layout.width);
        }
        assert_eq!(layout.rows.iter().flatten().count(), layout.items.len());
        let svg = picture.svg();
        // One line for each pair of nodes, also where an operator uses one twice.
        assert_eq!(svg.matches("marker-end").count(), 10);
        assert_eq!(svg.matches("rx=").count(), 8);
        assert!(svg.contains("a &lt; &quot;b&quot;"));
        assert!(picture.dot().contains("a < \\\"b\\\""));
    }
}
