//! [`summary`]: a table of a network's blocks with output shapes and numbers of parameters.

use crate::{
    Block, BlockId, Parameter, Parameters, Visitor,
    block::{each_block, push},
    dry_run, hooks,
    hooks::Tensors,
};
use isograd_core::{Backend, DType, GradReq, Result, Shape, Tensor, autograd, operators::random};
use std::{
    cell::RefCell,
    collections::{HashMap, HashSet},
    fmt,
    rc::Rc,
};

/// What [`summary`] found; it prints as a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// The blocks, each before those in it.
    pub rows: Vec<Row>,
    /// How many elements are trained, each shared parameter counted once.
    pub trainable: usize,
    /// How many elements are not: constants, running statistics, frozen parameters.
    pub fixed: usize,
    /// Paths of parameters that the forward pass did not use and whose shape is therefore not known.
    pub unknown: Vec<String>,
}

/// A block in a [`Summary`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Where it is; empty for the whole network.
    pub path: String,
    /// Its type.
    pub kind: String,
    /// The shapes of what it gave, the last time that it ran; none when it did not run, or ran out of sight: a block of
    /// one's own that is run by `forward` rather than by `call` or by a container.
    pub outputs: Vec<Shape>,
    /// How often it ran.
    pub calls: usize,
    /// The number of elements of the parameters that it holds itself, not in blocks within it.
    pub parameters: usize,
    /// How many of them were counted in a block before.
    pub shared: usize,
}

/// A table of the blocks of `net`, from a forward pass of zeros (f32) of this shape.
///
/// Nothing changes: parameters without values stand in as zeros, so a network can be looked at before it is initialized, and
/// shapes that wait for the first batch go on waiting; running statistics and the random state stay as they are, since the
/// pass is in predict mode. (Gluon's `summary` asks for an initialized network, and fixes its shapes.)
///
/// ```
/// use isograd::nn::{Activation, Dense, Sequential, summary};
/// let ctx = isograd::device("cpu")?;
/// let mut net = Sequential::new();
/// net.add(Dense::new(8).activation(Activation::Relu)).add(Dense::new(2));
/// let table = summary(&net, [1, 3], &ctx)?;
/// assert_eq!(table.trainable, 3 * 8 + 8 + 8 * 2 + 2);
/// assert_eq!(table.rows[2].outputs, [[1, 2]]);
/// println!("{table}");
/// # Ok::<(), isograd::Error>(())
/// ```
///
/// # Errors
/// What the forward pass reports.
pub fn summary<B: Backend>(net: &dyn Block<B>, shape: impl Into<Shape>, ctx: &B) -> Result<Summary> {
    summary_of(net, &Tensor::zeros(ctx, shape.into(), DType::F32)?)
}

/// The shapes of a block's outputs, and how often it was called.
type Seen = (Vec<Shape>, usize);

/// [`summary`] from a forward pass of `x`, for networks of other inputs: several, or of another dtype.
///
/// # Errors
/// What the forward pass reports.
pub fn summary_of<B: Backend, X: Tensors<B> + ?Sized, Y: Tensors<B>>(
    net: &dyn Block<B, X, Y>,
    x: &X,
) -> Result<Summary> {
    let seen: Rc<RefCell<HashMap<BlockId, Seen>>> = Rc::default();
    let sink = seen.clone();
    let state = random::state();
    let (result, shapes) = dry_run::run(|| {
        let _hook = hooks::after_each(net, move |call| {
            let outputs = call.outputs.iter().map(|t| t.shape().clone()).collect();
            let mut seen = sink.borrow_mut();
            let calls = seen.get(&call.block).map_or(0, |(_, calls)| *calls);
            seen.insert(call.block, (outputs, calls + 1));
            Ok(())
        });
        autograd::pause(|| net.call(x))
    });
    random::set_state(state);
    result?;

    let mut found = Summary { rows: Vec::new(), trainable: 0, fixed: 0, unknown: Vec::new() };
    let mut counted = HashSet::new();
    each_block(net, false, &mut |path, block| {
        let mut own = Own(path.to_string(), Vec::new());
        block.visit(&mut own);
        let (outputs, calls) = seen.borrow().get(&block.id()).cloned().unwrap_or_default();
        let label = block.label().unwrap_or_default();
        let kind = label.split('(').next().unwrap_or_default().to_string();
        let mut row = Row { path: path.to_string(), kind, outputs, calls, parameters: 0, shared: 0 };
        for (path, parameter) in own.1 {
            let shape = parameter.shape().ok().or_else(|| shapes.get(&parameter.identity()).cloned());
            let first = counted.insert(parameter.identity());
            let Some(shape) = shape else {
                found.unknown.push(path);
                continue;
            };
            let elements: usize = shape.iter().product();
            row.parameters += elements;
            match (first, parameter.grad_req()) {
                (false, _) => row.shared += elements,
                (true, GradReq::Null) => found.fixed += elements,
                (true, _) => found.trainable += elements,
            }
        }
        found.rows.push(row);
    });
    Ok(found)
}

/// Collects the parameters of a block that are not in blocks within it.
struct Own<B: Backend>(String, Vec<(String, Parameter<B>)>);

impl<B: Backend> Visitor<B> for Own<B> {
    fn parameter(&mut self, parameter: &Parameter<B>) {
        self.1.push((self.0.clone(), parameter.clone()));
    }

    fn child(&mut self, name: &str, child: &dyn Parameters<B>) {
        if child.label().is_none() {
            let before = push(&mut self.0, name);
            child.visit(self);
            self.0.truncate(before);
        }
    }
}

/// 1234567 as `1,234,567`.
fn grouped(n: usize) -> String {
    let digits = n.to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

impl Row {
    /// The four columns.
    fn cells(&self) -> [String; 4] {
        let outputs = match &self.outputs[..] {
            [] => "-".to_string(),
            shapes => shapes.iter().map(|s| format!("{s:?}")).collect::<Vec<_>>().join(", "),
        };
        let times = if self.calls > 1 { format!(" ×{}", self.calls) } else { String::new() };
        let shared = match self.shared {
            0 => "",
            n if n == self.parameters => " (shared)",
            _ => " (partly shared)",
        };
        [self.path.clone(), self.kind.clone(), outputs + &times, grouped(self.parameters) + shared]
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let head = ["Path", "Type", "Output shape", "Parameters"].map(String::from);
        let rows: Vec<[String; 4]> = std::iter::once(head).chain(self.rows.iter().map(Row::cells)).collect();
        let width = |column: usize| rows.iter().map(|r| r[column].chars().count()).max().unwrap_or(0);
        let widths = [width(0), width(1), width(2), width(3)];
        let line = "-".repeat(widths.iter().sum::<usize>() + 6);
        for (i, [path, kind, outputs, parameters]) in rows.iter().enumerate() {
            let [a, b, c, _] = widths;
            writeln!(f, "{path:a$}  {kind:b$}  {outputs:c$}  {parameters}")?;
            if i == 0 {
                writeln!(f, "{line}")?;
            }
        }
        writeln!(f, "{line}")?;
        write!(
            f,
            "Parameters: {}, trained {}, fixed {}",
            grouped(self.trainable + self.fixed),
            grouped(self.trainable),
            grouped(self.fixed)
        )?;
        if !self.unknown.is_empty() {
            write!(f, "\nNot reached, of unknown shape: {}", self.unknown.join(", "))?;
        }
        Ok(())
    }
}
