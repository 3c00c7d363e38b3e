//! `gather`, and `scatter_add` in the order of its elements: sorted by index, so that each output has one writer; or
//! atomically, on request.

use crate::{
    Cuda,
    context::{Key, Words},
    operand::{address, sizes},
    source::Source,
};
use isograd_core::{Backend, DType, Layout, Operand, OperandMut, Result, backend::launch::Temporary};
use smallvec::SmallVec;

/// Elements along the axis up to which a thread adds them one after another.
const FEW: usize = 32;

/// Only the size of elements matters to a gather.
pub(crate) fn gather_source(bytes: usize, rank: usize) -> Source {
    let mut source = Source::new("gather");
    let stored = match bytes {
        1 => "ig_u8",
        2 => "ig_u16",
        4 => "ig_u32",
        _ => "ig_u64",
    };
    source.text(&format!("typedef {stored} Stored;\n")).define("IG_RANK", rank).define("IG_GATHER", 1);
    source.text(include_str!("kernels/gather.cu"));
    source
}

/// How elements with equal indices are added up.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Way {
    /// A thread adds all elements of a column, one after another.
    Ordered,
    /// Sorted by index, a thread adds those of one index.
    Sorted,
    /// By whoever comes first: not the same bits every time.
    Atomic,
}

impl Way {
    /// The kernel's name.
    fn name(self) -> &'static str {
        match self {
            Way::Ordered => "scatter_add",
            Way::Sorted => "scatter_add_sorted",
            Way::Atomic => "scatter_add_atomic",
        }
    }
}

pub(crate) fn scatter_source(dtype: DType, rank: usize, way: Way) -> Source {
    let chosen = match way {
        Way::Ordered => "IG_SCATTER_ADD_ORDERED",
        Way::Sorted => "IG_SCATTER_ADD_SORTED",
        Way::Atomic => "IG_SCATTER_ADD_ATOMIC",
    };
    let mut source = Source::new(way.name());
    source.element(dtype).define("IG_RANK", rank).define("IG_SCATTER_ADD", 1).define(chosen, 1);
    source.text(include_str!("kernels/gather.cu"));
    source
}

fn extend(words: &mut Words, strides: &[isize]) {
    words.extend(strides.iter().map(|s| *s as u64));
}

/// See [`isograd_core::Backend::gather`].
pub(crate) fn gather(
    cuda: &Cuda,
    axis: usize,
    source: &Operand<'_, Cuda>,
    index: &Operand<'_, Cuda>,
    out: &mut OperandMut<'_, Cuda>,
) -> Result<()> {
    let shape = sizes(out.layout);
    let (rank, bytes) = (shape.len(), out.dtype.size());
    let key = Key::new("gather", [bytes as u64, rank as u64]);
    let function = cuda.context.kernel(key, || gather_source(bytes, rank))?;
    let count = out.layout.size();
    let mut strides: SmallVec<[isize; 6]> = SmallVec::from_slice(source.layout.strides());
    let along = std::mem::take(&mut strides[axis]);
    let mut words: Words = [count, axis, source.shape()[axis], along as usize].iter().map(|n| *n as u64).collect();
    words.extend(shape.iter().map(|s| *s as u64));
    extend(&mut words, &strides);
    extend(&mut words, index.layout.strides());
    extend(&mut words, out.layout.strides());
    words.extend([address(source), address(index), address(&out.as_operand()), cuda.context.fault()]);
    // SAFETY: the words are the fields of `Arguments`; the kernel reads nothing outside the source's axis.
    unsafe { cuda.context.launch_each("gather", function, count, &words) }
}

/// See [`isograd_core::Backend::scatter_add`].
pub(crate) fn scatter_add(
    cuda: &Cuda,
    axis: usize,
    source: &Operand<'_, Cuda>,
    index: &Operand<'_, Cuda>,
    out: &mut OperandMut<'_, Cuda>,
) -> Result<()> {
    let length = index.shape()[axis];
    // f16 and bf16 are rounded once, so their sums must be whole.
    let way = match (source.dtype, length) {
        (DType::F32 | DType::F64, 2..) if !cuda.deterministic() => Way::Atomic,
        (d, _) if length > if d.compute() == d { FEW } else { 1 } => Way::Sorted,
        _ => Way::Ordered,
    };
    let sorted = way == Way::Sorted;
    let rank = index.layout.rank().saturating_sub(1).max(1);
    let key = Key::new(way.name(), [source.dtype as u64, rank as u64]);
    let function = cuda.context.kernel(key, || scatter_source(source.dtype, rank, way))?;
    // Where the index is broadcast, one order serves many columns.
    let order = if sorted { Some(order(cuda, axis, index)?) } else { None };
    let without = |strides: &[isize]| -> SmallVec<[isize; 6]> {
        let mut s: SmallVec<[isize; 6]> = SmallVec::from_slice(strides);
        s.remove(axis);
        if s.is_empty() {
            s.push(0);
        }
        s
    };
    let mut shape: SmallVec<[usize; 6]> = SmallVec::from_slice(index.shape());
    shape.remove(axis);
    if shape.is_empty() {
        shape.push(1);
    }
    let columns: usize = shape.iter().product();
    let out = out.as_operand();
    let numbers = [columns, length, axis, out.shape()[axis]];
    let mut words: Words = numbers.iter().map(|n| *n as u64).collect();
    extend(&mut words, &[out.layout.strides()[axis], source.layout.strides()[axis], index.layout.strides()[axis]]);
    words.extend(shape.iter().map(|s| *s as u64));
    for strides in [source.layout.strides(), index.layout.strides(), out.layout.strides()] {
        extend(&mut words, &without(strides));
    }
    match &order {
        Some((_, strides)) => extend(&mut words, strides),
        None => extend(&mut words, &SmallVec::<[isize; 6]>::from_elem(0, rank)),
    }
    let order = order.as_ref().map_or(0, |(t, _)| address(&t.operand()));
    words.extend([address(source), address(index), order, address(&out), cuda.context.fault()]);
    let count = if way == Way::Ordered { columns } else { columns * length };
    // SAFETY: the words are the fields of `Arguments`; the kernel writes nothing outside the output's axis.
    unsafe { cuda.context.launch_each("scatter_add", function, count, &words) }
}

/// The positions that sort `index` along `axis`, which is last in them, and their strides along the other axes.
fn order(cuda: &Cuda, axis: usize, index: &Operand<'_, Cuda>) -> Result<(Temporary<Cuda>, SmallVec<[isize; 6]>)> {
    let (shape, strides) = (index.shape(), index.layout.strides());
    let mut sizes: SmallVec<[usize; 6]> = SmallVec::new();
    let mut steps: SmallVec<[isize; 6]> = SmallVec::new();
    let mut varies: SmallVec<[bool; 6]> = SmallVec::new();
    for other in (0..shape.rank()).filter(|a| *a != axis) {
        varies.push(strides[other] != 0);
        if strides[other] != 0 {
            sizes.push(shape[other]);
            steps.push(strides[other]);
        }
    }
    sizes.push(shape[axis]);
    steps.push(strides[axis]);
    let layout = Layout::new(&sizes[..], &steps, index.layout.offset());
    let mut order = Temporary::new(cuda, DType::I64, &sizes[..])?;
    cuda.argsort(false, &index.with_layout(&layout), &mut order.operand_mut())?;
    let mut own = order.layout().strides().iter();
    let mut of_axes: SmallVec<[isize; 6]> =
        varies.iter().map(|v| if *v { *own.next().expect("an axis that varies") } else { 0 }).collect();
    if of_axes.is_empty() {
        of_axes.push(0);
    }
    Ok((order, of_axes))
}
