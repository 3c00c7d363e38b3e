//! The source text that all element loops share: operands with layouts, passed as one block of numbers, and the walk over
//! the elements.
//!
//! A kernel takes its sizes and strides as `words`, so that new shapes compile nothing. On a CPU a work item takes a run of
//! neighbouring elements, and within it whole runs of the last axis, in a loop that the compiler vectorizes; on a GPU
//! neighbouring work items take neighbouring elements.

use crate::platform::Class;
use isograd_core::Layout;
use smallvec::SmallVec;
use std::fmt::Write;

/// The numbers that a kernel takes.
pub(crate) type Words = SmallVec<[u64; 64]>;

/// The number of axes that a kernel is compiled for, so that there are few kernels: layouts are padded in front with axes of
/// size 1, which cost next to nothing on a CPU, because it skips them.
pub(crate) fn padded_rank(class: Class, rank: usize) -> usize {
    match (class, rank) {
        (Class::Gpu, 0..=2) => rank.max(1),
        _ => rank.next_multiple_of(4).max(4),
    }
}

/// Appends the sizes of `shape`, padded in front to `rank`.
pub(crate) fn push_shape(words: &mut Words, shape: &[usize], rank: usize) {
    words.extend(std::iter::repeat_n(1, rank - shape.len()));
    words.extend(shape.iter().map(|&n| n as u64));
}

/// Appends `strides`, padded in front to `rank`.
pub(crate) fn push_strides(words: &mut Words, strides: &[isize], rank: usize) {
    words.extend(std::iter::repeat_n(0, rank - strides.len()));
    words.extend(strides.iter().map(|&s| s as i64 as u64));
}

/// Whether positions and counts of `layouts` fit 32 bits, with room for a step beyond the end.
pub(crate) fn is_narrow<'a>(class: Class, n: usize, layouts: impl IntoIterator<Item = &'a Layout>) -> bool {
    const LIMIT: usize = 1 << 30;
    class == Class::Gpu && n < LIMIT && layouts.into_iter().all(|l| l.span().1 < LIMIT)
}

/// What stands before a kernel: the type of positions and the parameter with the words. `direct` says whether `count` words
/// are passed by value; else they lie in memory.
pub(crate) fn head(narrow: bool, direct: bool, count: usize) -> String {
    let position = if narrow { "int" } else { "long" };
    let mut text = format!("typedef {position} ig_p;\n");
    if direct {
        write!(text, "typedef struct {{ ulong w[{count}]; }} ig_words;\n#define W(k) ((ig_p)words.w[k])\n").unwrap();
        text += "#define WORDS const ig_words words\n";
    } else {
        text += "#define W(k) ((ig_p)words[k])\n#define WORDS __global const ulong *restrict words\n";
    }
    text
}

/// One operand of a walk: its variable `p{name}`, where its strides stand among the words.
pub(crate) struct Stepped<'a> {
    pub name: &'a str,
    /// The word of the first stride.
    pub strides: usize,
}

/// Stands before a loop that gains nothing from vectors or copies of its body, which take the compiler's time.
pub(crate) const SIMPLE_LOOP: &str = "#pragma clang loop vectorize(disable) interleave(disable) unroll(disable)\n";

/// Statements that take the axes `from..to` (the last one first) off `rest`, the row-major number of an index over them, and
/// add their share to the position of each operand. `shape` is the word of axis 0. On a CPU they are a loop over the axes
/// after the leading ones of size 1; on a GPU a straight line.
pub(crate) fn take_axes(class: Class, axes: std::ops::Range<usize>, shape: usize, operands: &[Stepped<'_>]) -> String {
    let mut text = String::new();
    let first = axes.start;
    if class == Class::Cpu {
        if axes.is_empty() {
            return text;
        }
        let steps = |axis: &str| -> String {
            operands.iter().map(|o| format!("{} += at * W({} + {axis}); ", o.name, o.strides)).collect()
        };
        writeln!(
            text,
            "{{ int axis = {}, first = {first};
{SIMPLE_LOOP}while (first < axis && W({shape} + first) == 1) first++;
{SIMPLE_LOOP}for (; axis > first; axis--) {{ const ig_p size = W({shape} + axis), at = rest % size; rest /= size; {}}}
{{ const ig_p at = rest; {}}} }}",
            axes.end - 1,
            steps("axis"),
            steps("axis"),
        )
        .unwrap();
        return text;
    }
    for axis in axes.rev() {
        if axis == first {
            text += "{ const ig_p at = rest; ";
        } else {
            write!(text, "{{ const ig_p at = rest % W({0}); rest /= W({0}); ", shape + axis).unwrap();
        }
        for o in operands {
            write!(text, "{} += at * W({}); ", o.name, o.strides + axis).unwrap();
        }
        text += "}\n";
    }
    text
}
