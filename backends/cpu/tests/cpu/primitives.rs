//! `map`, `reduce`, `gather` and `scatter_add` against the reference backend, over views of every kind, and across the
//! sizes from which on several threads work.

use super::common::{Array, Random, close, epsilon, layout};
use isograd_core::{
    Backend, DType, Error, Layout, ReduceOp, Shape, Value,
    backend::launch,
    expr::{Expr, Kernel, Program},
};
use isograd_cpu::Cpu;
use isograd_reference::Reference;

fn content(random: &mut Random, dtype: DType, size: usize) -> Vec<Value> {
    (0..size).map(|_| random.value(dtype)).collect()
}

#[test]
fn maps_agree_with_the_reference_on_every_layout() {
    let (cpu, random) = (Cpu::default(), &mut Random(1));
    for round in 0..60 {
        let d = random.pick(&[DType::F32, DType::F64, DType::F16, DType::BF16, DType::I32, DType::I64, DType::U8]);
        let (x, y) = (Expr::input(0, d), Expr::input(1, d));
        let z = &x * &y + &x;
        let roots = match random.below(3) {
            0 => vec![z],
            1 => vec![z.clone(), x.less(&z).select(&x, &y)],
            _ => vec![Expr::old(0, d) + &z, (Expr::index() * 3i64.into_expr()).cast(DType::F32)],
        };
        let program = Program::new("test", &roots, &[d, d], &[]).unwrap();
        let kernel = Kernel::new(&program, &[]);
        let shape = match round % 4 {
            0 => vec![random.range(1, 5), random.range(1, 7), random.range(1, 9)],
            1 => vec![random.range(40, 60), random.range(400, 700)],
            2 => vec![random.range(20_000, 50_000)],
            _ => vec![random.range(2, 4), random.range(20, 50), random.range(50, 200)],
        };
        let inputs: Vec<_> = (0..2)
            .map(|_| {
                let (l, size) = layout(random, &shape, true);
                (l, content(random, d, size))
            })
            .collect();
        let outputs: Vec<_> = roots
            .iter()
            .map(|r| {
                let (l, size) = layout(random, &shape, false);
                (r.dtype(), l, content(random, r.dtype(), size))
            })
            .collect();
        macro_rules! run {
            ($ctx:expr) => {{
                let ins: Vec<_> = inputs.iter().map(|(l, c)| Array::new($ctx, d, l.clone(), c)).collect();
                let mut outs: Vec<_> = outputs.iter().map(|(d, l, c)| Array::new($ctx, *d, l.clone(), c)).collect();
                let operands: Vec<_> = ins.iter().map(Array::operand).collect();
                let mut targets: Vec<_> = outs.iter_mut().map(Array::operand_mut).collect();
                launch::map($ctx, &kernel, &operands, &mut targets).unwrap();
                outs.iter().map(|o| o.values($ctx)).collect::<Vec<_>>()
            }};
        }
        for (got, expected) in run!(&cpu).iter().zip(run!(&Reference)) {
            close(got, &expected, 0.0, 0.0, &format!("{roots:?} {d} {shape:?}"));
        }
    }
}

trait IntoExpr {
    fn into_expr(self) -> Expr;
}
impl IntoExpr for i64 {
    fn into_expr(self) -> Expr {
        Expr::constant(self)
    }
}

#[test]
fn reductions_agree_with_the_reference_on_every_layout() {
    let (cpu, random) = (Cpu::default(), &mut Random(2));
    for round in 0..60 {
        let d = random.pick(&[DType::F32, DType::F64, DType::F16, DType::I32, DType::I64, DType::U8]);
        let x = Expr::input(0, d);
        let root = &x * &x + &x;
        let program = Program::new("test", std::slice::from_ref(&root), &[d], &[]).unwrap();
        let shape = match round % 4 {
            0 => vec![random.range(1, 5), random.range(1, 7), random.range(1, 9)],
            1 => vec![random.range(200, 300), random.range(300, 700)],
            2 => vec![random.range(70_000, 200_000)],
            _ => vec![random.range(2, 40), random.range(20, 90), random.range(50, 90)],
        };
        let kept = random.below(shape.len() + 1);
        let op = random.pick(&ReduceOp::ALL[..]);
        if op == ReduceOp::Prod && d.is_float() {
            continue;
        }
        let (l, size) = layout(random, &shape, true);
        let data = content(random, d, size);
        let (out, out_size) = layout(random, &shape[..kept], false);
        let kernel = Kernel::new(&program, &[]);
        macro_rules! run {
            ($ctx:expr) => {{
                let x = Array::new($ctx, d, l.clone(), &data);
                let zeros = vec![Value::zero(d); out_size.max(1)];
                let mut y = Array::new($ctx, d, out.clone(), &zeros);
                launch::reduce($ctx, op, &kernel, &Shape::from(&shape[..]), &[x.operand()], &mut y.operand_mut())
                    .unwrap();
                y.values($ctx)
            }};
        }
        // Terms are below 6 in size; pairwise sums of n terms lose some log2 n roundings of the sum of sizes.
        let terms: usize = shape[kept..].iter().product();
        let unit = if d == DType::F16 { f32::EPSILON as f64 } else { epsilon(d) };
        let scale = 6.0 * terms as f64 * unit * 24.0;
        let what = format!("{op:?} {d} {shape:?} kept {kept} {l:?}");
        let (got, expected) = (run!(&cpu), run!(&Reference));
        if op == ReduceOp::Sum && d.is_float() {
            for (i, (g, e)) in got.iter().zip(&expected).enumerate() {
                let (g, e) = (g.to_f64(), e.to_f64());
                assert!(g == e || (g - e).abs() <= scale + epsilon(d) * e.abs(), "{what}: {i}: {g}, expected {e}");
            }
        } else {
            close(&got, &expected, 0.0, 0.0, &what);
        }
    }
}

#[test]
fn gather_and_scatter_agree_with_the_reference() {
    let (cpu, random) = (Cpu::default(), &mut Random(3));
    for round in 0..40 {
        let d = random.pick(&[DType::F32, DType::F16, DType::I64, DType::U8]);
        let shape = if round % 4 == 0 {
            vec![random.range(100, 200), random.range(1000, 2000)]
        } else {
            vec![random.range(1, 5), random.range(1, 7), random.range(1, 9)]
        };
        let axis = random.below(shape.len());
        let picked = random.range(1, 2 * shape[axis]);
        let mut target = shape.clone();
        target[axis] = picked;
        let (s, s_size) = layout(random, &shape, true);
        let (i, i_size) = layout(random, &target, true);
        let (o, o_size) = layout(random, &target, false);
        let data = content(random, d, s_size);
        let index: Vec<_> = (0..i_size).map(|_| Value::I64(random.below(shape[axis]) as i64)).collect();
        let (u, u_size) = layout(random, &shape, false);
        let before = content(random, d, u_size.max(o_size));
        macro_rules! run {
            ($ctx:expr) => {{
                let x = Array::new($ctx, d, s.clone(), &data);
                let index = Array::new($ctx, DType::I64, i.clone(), &index);
                let mut y = Array::new($ctx, d, o.clone(), &before);
                $ctx.gather(axis, &x.operand(), &index.operand(), &mut y.operand_mut()).unwrap();
                let mut z = Array::new($ctx, d, u.clone(), &before);
                $ctx.scatter_add(axis, &y.operand(), &index.operand(), &mut z.operand_mut()).unwrap();
                (y.values($ctx), z.values($ctx))
            }};
        }
        let (got, expected) = (run!(cpu_ref(&cpu)), run!(&Reference));
        let what = format!("{d} {shape:?} axis {axis}");
        close(&got.0, &expected.0, 0.0, 0.0, &what);
        close(&got.1, &expected.1, 1e-6, 10.0, &what);
    }
}

fn cpu_ref(cpu: &Cpu) -> &Cpu {
    cpu
}

#[test]
fn an_index_outside_is_named_and_nothing_is_written() {
    let cpu = Cpu::default();
    for shape in [vec![3, 4], vec![300, 4000]] {
        let x = Array::filled(&cpu, &shape[..], Value::F32(1.0));
        let mut index = vec![Value::I64(0); shape[0] * shape[1]];
        index[shape[0] * shape[1] - 2] = Value::I64(-1);
        let index = Array::new(&cpu, DType::I64, Layout::contiguous(&shape[..]), &index);
        let mut y = Array::filled(&cpu, &shape[..], Value::F32(0.0));
        for result in [
            cpu.gather(0, &x.operand(), &index.operand(), &mut y.operand_mut()),
            cpu.scatter_add(0, &x.operand(), &index.operand(), &mut y.operand_mut()),
        ] {
            let error = result.unwrap_err();
            assert!(
                matches!(&error, Error::IndexOutOfRange { index: -1, axis: 0, device, .. } if device == "cpu"),
                "{error}"
            );
        }
    }
}

#[test]
fn transfers_outside_a_buffer_are_errors() {
    let cpu = Cpu::default();
    let mut b = cpu.alloc(8).unwrap();
    assert!(cpu.upload(&[0; 4], &mut b, 5).is_err());
    assert!(cpu.download(&b, usize::MAX, &mut [0; 4]).is_err());
    cpu.upload(&[1, 2], &mut b, 6).unwrap();
    let mut back = [0; 2];
    cpu.download(&b, 6, &mut back).unwrap();
    assert_eq!(back, [1, 2]);
}

#[test]
fn memory_that_is_not_there_is_an_error_and_the_context_lives_on() {
    let cpu = Cpu::default();
    for bytes in [1 << 60, usize::MAX] {
        assert!(matches!(cpu.alloc(bytes), Err(Error::OutOfMemory { .. })));
    }
    assert!(cpu.alloc(1 << 20).is_ok());
}
