//! Sizes at which grids, 16-bit counters and 32-bit positions end. What is right is computed here, without the oracle.

use crate::{
    case::{Checked, Environment, Failure, Level, Measured},
    numbers::Numbers,
    suite::total,
};
use isograd_core::backend::DynBuffer;
use isograd_core::{
    Backend, DType, Dyn, Error, Expr, Layout, Operand, OperandMut, ReduceOp, Value,
    backend::launch,
    expr::{Kernel, Program, scalar},
};

/// Elements of the largest outputs: more than 65,535 groups of 256, where the code is optimized.
fn large_size(e: &Environment<'_>) -> usize {
    match e.level {
        Level::Quick => (1 << 17) + 259,
        _ if cfg!(debug_assertions) => (1 << 18) + 259,
        _ if e.dtype.size() > 1 => (1 << 21) + 259,
        _ => (1 << 24) + 259,
    }
}

fn compared(ctx: &Dyn, name: &str, buffer: &DynBuffer, dtype: DType, expected: &[u8]) -> Checked {
    let mut got = vec![0; expected.len()];
    ctx.download(buffer, 0, &mut got)?;
    if got == expected {
        return Ok(Measured { elements: got.len() / dtype.size(), ..Measured::default() });
    }
    let wrong = got.iter().zip(expected).position(|(a, b)| a != b).unwrap_or(0) / dtype.size();
    let read = |bytes: &[u8]| Value::read(dtype, bytes, wrong).to_string();
    Err(Failure {
        why: format!("{name} of {} elements is wrong", expected.len() / dtype.size()),
        element: Some(wrong),
        expected: read(expected),
        got: read(&got),
        ulp: f64::NAN,
        ..Failure::default()
    })
}

fn bytes_of(dtype: DType, n: usize, f: impl Fn(usize) -> Value) -> Vec<u8> {
    let mut bytes = vec![0; n * dtype.size()];
    (0..n).for_each(|i| f(i).cast(dtype).write(&mut bytes, i));
    bytes
}

/// One axis of many elements: the index, random bits, an upload and download in one piece, a map, a reduction.
pub(super) fn large(e: &Environment<'_>, _: &mut Numbers) -> Checked {
    let (ctx, d, n) = (e.ctx, e.dtype, large_size(e));
    let flat = Layout::contiguous([n]);
    let value = |i: usize| Value::I64((i as i64 >> 16).wrapping_add(i as i64 * 3) & 127);
    let mut indices = ctx.alloc(n * d.size())?;
    let i = Expr::index();
    let root = ((&i.shr(&i.like(16)) + &(&i * &i.like(3))).and(&i.like(127))).cast(d);
    let program = Program::new("index", &[root], &[], &[])?;
    launch::map(ctx, &Kernel::new(&program, &[]), &[], &mut [OperandMut::new(&mut indices, d, &flat)])?;
    let expected = bytes_of(d, n, value);
    let index = compared(ctx, "the index", &indices, d, &expected)?;
    drop(indices);

    let mut there = ctx.alloc(n * d.size())?;
    ctx.upload(&expected, &mut there, 0)?;
    let moved = compared(ctx, "an upload", &there, d, &expected)?;

    let mut twice = ctx.alloc(n * d.size())?;
    let program = Program::new("twice", &[Expr::input(0, d) + Expr::input(0, d)], &[d], &[])?;
    let x = Operand::new(&there, d, &flat);
    // Backward, so that no two axes merge into one that starts at 0.
    let reversed = flat.slice(0, n - 1, n, -1);
    launch::map(
        ctx,
        &Kernel::new(&program, &[]),
        &[x.with_layout(&reversed)],
        &mut [OperandMut::new(&mut twice, d, &flat)],
    )?;
    let mapped = bytes_of(d, n, |i| Value::I64(value(n - 1 - i).to_i64() * 2));
    let mapped = compared(ctx, "a map", &twice, d, &mapped)?;

    let mut sum = ctx.alloc(d.size())?;
    let program = Program::new("bit", &[Expr::input(0, d).greater(&Expr::input(0, d).like(126)).cast(d)], &[d], &[])?;
    let one = Layout::contiguous([]);
    let mut target = OperandMut::new(&mut sum, d, &one);
    launch::reduce(ctx, ReduceOp::Sum, &Kernel::new(&program, &[]), flat.shape(), &[x], &mut target)?;
    let count = (0..n).filter(|&i| value(i).to_i64() > 126).count();
    let reduced = compared(ctx, "a sum", &sum, d, &bytes_of(d, 1, |_| Value::I64(count as i64)))?;

    let bits = if d == DType::I32 { random_bits(ctx, n.min(1 << 18))? } else { Measured::default() };
    total([index, moved, mapped, reduced, bits].map(Ok))
}

fn random_bits(ctx: &Dyn, n: usize) -> Checked {
    let flat = Layout::contiguous([n]);
    let mut words = ctx.alloc(n * 4)?;
    let root = Expr::random_bits(&Expr::constant(0x1234_5678_9abci64), &Expr::index(), 2).cast(DType::I32);
    let program = Program::new("bits", &[root], &[], &[])?;
    launch::map(ctx, &Kernel::new(&program, &[]), &[], &mut [OperandMut::new(&mut words, DType::I32, &flat)])?;
    let word = |i: usize| Value::I64(scalar::philox(0x1234_5678_9abc, i as u64)[2] as i64);
    compared(ctx, "random bits", &words, DType::I32, &bytes_of(DType::I32, n, word))
}

/// More rows than 65,535, which no axis merges with: grids of two axes end there.
pub(super) fn many_rows(e: &Environment<'_>, _: &mut Numbers) -> Checked {
    let (ctx, d, rows) = (e.ctx, DType::F32, 65_540usize);
    let value = |r: usize, c: usize| (r % 1021) as f32 - (c * 7) as f32;
    let mut bytes = vec![0; rows * 4 * 4];
    (0..rows).for_each(|r| (0..4).for_each(|c| Value::F32(value(r, c)).write(&mut bytes, r * 4 + c)));
    let mut there = ctx.alloc(bytes.len())?;
    ctx.upload(&bytes, &mut there, 0)?;
    let base = Layout::contiguous([rows, 4]);
    // Three of four columns, so that the axes stay apart; then the same with the long axis last.
    let view = base.slice(1, 0, 3, 1);
    let program = Program::new("twice", &[Expr::input(0, d) + Expr::input(0, d)], &[d], &[])?;
    let mut checks = Vec::new();
    for (name, layout) in [("rows", view.clone()), ("columns", view.permute(&[1, 0]))] {
        let mut y = ctx.alloc(rows * 3 * 4)?;
        let to = Layout::contiguous(layout.shape().clone());
        let x = Operand::new(&there, d, &layout);
        launch::map(ctx, &Kernel::new(&program, &[]), &[x], &mut [OperandMut::new(&mut y, d, &to)])?;
        let at = |i: usize| if name == "rows" { value(i / 3, i % 3) } else { value(i % rows, i / rows) };
        checks.push(compared(ctx, name, &y, d, &bytes_of(d, rows * 3, |i| Value::F32(at(i) * 2.0))));
    }
    let program = Program::new("term", &[Expr::input(0, d)], &[d], &[])?;
    let (mut y, to) = (ctx.alloc(rows * 4)?, Layout::contiguous([rows]));
    let x = Operand::new(&there, d, &view);
    launch::reduce(
        ctx,
        ReduceOp::Sum,
        &Kernel::new(&program, &[]),
        view.shape(),
        &[x],
        &mut OperandMut::new(&mut y, d, &to),
    )?;
    let sum = |r: usize| Value::F32(value(r, 0) + value(r, 1) + value(r, 2));
    checks.push(compared(ctx, "a sum of each row", &y, d, &bytes_of(d, rows, sum)));

    // A product of one row and one column each.
    let (batches, out) = (view.insert_axis(1, 1), Layout::contiguous([rows, 1, 1]));
    let column = batches.permute(&[0, 2, 1]);
    let mut y = ctx.alloc(rows * 4)?;
    ctx.matmul(&x.with_layout(&batches), &x.with_layout(&column), &mut OperandMut::new(&mut y, d, &out))?;
    let square = |r: usize| Value::F32((0..3).map(|c| value(r, c) * value(r, c)).sum());
    checks.push(compared(ctx, "many products", &y, d, &bytes_of(d, rows, square)));

    let positions = bytes_of(DType::I64, rows, |r| Value::I64(((r * 7919) % rows) as i64));
    let mut index = ctx.alloc(positions.len())?;
    ctx.upload(&positions, &mut index, 0)?;
    let (at, column) = (Layout::contiguous([rows]), view.select(1, 2));
    let mut y = ctx.alloc(rows * 4)?;
    let (x, index) = (x.with_layout(&column), Operand::new(&index, DType::I64, &at));
    ctx.gather(0, &x, &index, &mut OperandMut::new(&mut y, d, &to))?;
    let picked = |r: usize| Value::F32(value((r * 7919) % rows, 2));
    checks.push(compared(ctx, "a gather", &y, d, &bytes_of(d, rows, picked)));
    let mut y = ctx.alloc(rows * 4)?;
    ctx.upload(&vec![0; rows * 4], &mut y, 0)?;
    ctx.scatter_add(0, &x, &index, &mut OperandMut::new(&mut y, d, &to))?;
    let mut places = vec![0.0; rows];
    (0..rows).for_each(|r| places[(r * 7919) % rows] += value(r, 2));
    checks.push(compared(ctx, "a scatter", &y, d, &bytes_of(d, rows, |r| Value::F32(places[r]))));
    total(checks)
}

/// Host memory in bytes that is free; the largest number where the system does not tell.
fn free_memory() -> usize {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = text.lines().find_map(|l| l.strip_prefix("MemAvailable:"));
    let kib = line.and_then(|l| l.trim().trim_end_matches(" kB").parse::<usize>().ok());
    kib.map_or(usize::MAX, |k| k.saturating_mul(1024))
}

/// Elements beyond position 2^31 (with `--full` also 2^32) of one buffer, read and written by the primitives. What lies where a
/// position would wrap to is something else.
pub(super) fn far_offsets(e: &Environment<'_>, n: &mut Numbers) -> Checked {
    if e.level == Level::Quick {
        return Err(Failure::skip("it takes 2 GiB: not in a quick run"));
    }
    let mut measured = Measured::default();
    let wraps: &[u32] = if e.level == Level::Full { &[31, 32] } else { &[31] };
    for &bits in wraps {
        let (base, size) = (1usize << bits, (1usize << bits) + (1 << 16));
        if size > e.ctx.capabilities().max_buffer || free_memory() < size + (2 << 30) {
            return Err(Failure::skip(format!("it takes a buffer of {size} bytes")));
        }
        let mut buffer = match e.ctx.alloc(size) {
            Err(Error::OutOfMemory { .. }) => return Err(Failure::skip(format!("there is no buffer of {size} bytes"))),
            other => other?,
        };
        measured.merge(&far(e.ctx, n, &mut buffer, base)?);
    }
    Ok(measured)
}

fn far(ctx: &Dyn, n: &mut Numbers, buffer: &mut DynBuffer, base: usize) -> Checked {
    const PART: usize = 1000;
    let d = DType::U8;
    let (near, beyond): (Vec<u8>, Vec<u8>) = (0..PART).map(|_| (n.below(100) as u8, 100 + n.below(100) as u8)).unzip();
    ctx.upload(&near, buffer, 0)?;
    ctx.upload(&beyond, buffer, base)?;
    let expect = |name: &str, from: &DynBuffer, offset: usize, expected: &[u8]| -> Checked {
        let mut got = vec![0; expected.len()];
        ctx.download(from, offset, &mut got)?;
        if got == expected {
            return Ok(Measured { elements: got.len(), ..Measured::default() });
        }
        Err(Failure::new(name, format!("it is wrong beyond position {base}")))
    };
    let mut checks = vec![expect("download", buffer, base, &beyond)];
    let part = Layout::new([PART], &[1], 0);
    let reach = Layout::new([PART], &[1], base);
    // One element near, one far: the stride itself is beyond.
    let wide = Layout::new([2], &[base as isize], 3);
    let mut y = ctx.alloc(PART)?;
    let copy = Program::new("copy", &[Expr::input(0, d)], &[d], &[])?;
    let kernel = Kernel::new(&copy, &[]);
    let x = Operand::new(buffer, d, &reach);
    launch::map(ctx, &kernel, &[x], &mut [OperandMut::new(&mut y, d, &part)])?;
    checks.push(expect("map, offset", &y, 0, &beyond));
    let two = Layout::new([2], &[1], 0);
    launch::map(ctx, &kernel, &[x.with_layout(&wide)], &mut [OperandMut::new(&mut y, d, &two)])?;
    checks.push(expect("map, stride", &y, 0, &[near[3], beyond[3]]));
    let one = Layout::contiguous([]);
    launch::reduce(ctx, ReduceOp::Max, &kernel, part.shape(), &[x], &mut OperandMut::new(&mut y, d, &one))?;
    checks.push(expect("reduce", &y, 0, &[*beyond.iter().max().unwrap_or(&0)]));
    let positions = bytes_of(DType::I64, 4, |i| Value::I64((base * (i % 2) + i) as i64));
    let mut index = ctx.alloc(positions.len())?;
    ctx.upload(&positions, &mut index, 0)?;
    let (four, whole) = (Layout::contiguous([4]), Layout::contiguous([base + PART]));
    let index = Operand::new(&index, DType::I64, &four);
    ctx.gather(0, &x.with_layout(&whole), &index, &mut OperandMut::new(&mut y, d, &four))?;
    checks.push(expect("gather", &y, 0, &[near[0], beyond[1], near[2], beyond[3]]));
    let written: Vec<u8> = (0..PART).map(|i| i as u8).collect();
    ctx.upload(&written, &mut y, 0)?;
    let y = Operand::new(&y, d, &part);
    launch::map(ctx, &kernel, &[y], &mut [OperandMut::new(buffer, d, &reach)])?;
    checks.push(expect("map to an offset", buffer, base, &written));
    checks.push(expect("what lies before", buffer, 4, &near[4..]));
    total(checks)
}
