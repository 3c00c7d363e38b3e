//! Results against the oracle's: dense and strided inputs, any shape, special values, every number.

use super::{Row, described, kind};
use crate::{
    case::{Checked, Environment, Failure, Level, Measured, compare},
    numbers::{Array, Numbers, bit_patterns, shape, special},
    oracle::{Oracle, cells},
    suite::total,
};
use isograd_core::{DType, Dyn, Shape, Tensor, Value};
use isograd_reference::Reference;
use std::sync::atomic::{AtomicU32, Ordering};

/// How inputs are drawn.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Draw {
    /// The row's shapes, dense.
    Dense,
    /// The row's shapes, each input a view of a larger memory.
    View,
    /// Any shapes that broadcast, as views.
    Shapes,
    /// Numbers at which implementations go wrong.
    Special,
    /// A given shape for all inputs.
    Shape(&'static [usize]),
    /// Every number of a two-byte dtype, patterns over all exponents of the others.
    Patterns(usize),
}

fn draws(environment: &Environment<'_>, row: &Row) -> Vec<Draw> {
    let float = environment.dtype.is_float();
    let mut draws = vec![Draw::View];
    if row.elementwise {
        draws.extend([Draw::Shapes, Draw::Special]);
        let single = row.inputs.len() == 1 && float && environment.size >= 400;
        match environment.level {
            Level::Quick if single && environment.dtype == DType::F32 => draws.push(Draw::Patterns(3000)),
            Level::Quick => (),
            Level::Default if single => draws.push(Draw::Patterns(20_000)),
            Level::Full if single => draws.push(Draw::Patterns(1 << 20)),
            _ => (),
        }
    }
    if environment.level > Level::Quick {
        draws.push(Draw::Dense);
        if row.elementwise {
            draws.extend([Draw::Shape(&[]), Draw::Shape(&[0]), Draw::Shape(&[3, 0, 2]), Draw::Shape(&[1, 1])]);
            if environment.size >= 400 && environment.dtype == DType::F32 && row.variant.ends_with('0') {
                draws.push(Draw::Shape(&[65_539]));
            }
        }
    }
    for _ in 1..environment.draws() {
        draws.extend(if row.elementwise { [Draw::Shapes, Draw::View] } else { [Draw::View, Draw::View] });
    }
    draws
}

pub(super) fn check(environment: &Environment<'_>, row: &Row) -> Checked {
    let mut numbers = environment.numbers(&format!("{} {}", row.operator, row.variant));
    if row.exact {
        return created(environment, row);
    }
    let every = environment.level == Level::Full && environment.dtype == DType::F32 && environment.size >= 400;
    let mut measured = Measured::default();
    if every && row.elementwise && row.inputs.len() == 1 {
        measured = every_number(environment, row)?;
    }
    let drawn = total(draws(environment, row).into_iter().map(|draw| {
        let arrays = inputs(&mut numbers, environment, row, draw);
        one(environment, row, &arrays, draw)
            .map_err(|f| Failure { variant: format!("{:?}", draw), ..f }.on(described(&arrays)))
    }))?;
    measured.merge(&drawn);
    Ok(measured)
}

fn inputs(numbers: &mut Numbers, environment: &Environment<'_>, row: &Row, draw: Draw) -> Vec<Array> {
    let dtype = environment.dtype;
    let whole = shape(numbers, environment.size);
    (row.inputs.iter())
        .map(|(fixed, domain)| {
            let shape: Shape = match draw {
                Draw::Shapes if row.inputs.len() == 1 => whole.clone(),
                Draw::Shapes | Draw::Special if row.inputs.len() > 1 => {
                    let whole = if draw == Draw::Special { Shape::from([31, 33]) } else { whole.clone() };
                    broadcasting(numbers, &whole, draw == Draw::Special)
                }
                Draw::Special => [special(dtype).len()].into(),
                Draw::Shape(s) => s.into(),
                Draw::Patterns(n) => [bit_patterns(dtype, n).len()].into(),
                _ => fixed[..].into(),
            };
            let n = shape.size();
            let values: Vec<Value> = match draw {
                Draw::Special => {
                    let all = special(dtype);
                    let first = numbers.below(all.len());
                    (0..n).map(|i| all[(i + first) % all.len()]).collect()
                }
                Draw::Patterns(count) => bit_patterns(dtype, count),
                _ => domain.draw(numbers, dtype, n),
            };
            match draw {
                Draw::View | Draw::Shapes => Array::view(numbers, dtype, &shape, &values),
                _ => Array::dense(dtype, &shape, &values),
            }
        })
        .collect()
}

/// A shape that broadcasts to `whole`: axes of size 1, leading ones left out. Special values meet each other in pairs.
fn broadcasting(numbers: &mut Numbers, whole: &Shape, all: bool) -> Shape {
    if all {
        return whole.clone();
    }
    let from = if numbers.below(3) == 0 { numbers.below(whole.rank() + 1) } else { 0 };
    whole[from..].iter().map(|&n| if numbers.below(4) == 0 { 1 } else { n }).collect()
}

/// A row's tensor and the bases of its inputs, or the kind of error.
type Outcome = Result<(Tensor, Vec<Tensor>), String>;

/// The row's tensor, or the kind of error; and whether its inputs stayed as they were.
fn computed(ctx: &Dyn, dtype: DType, row: &Row, arrays: &[Array]) -> Result<Outcome, Failure> {
    let bases: Vec<Tensor> = arrays.iter().map(|a| a.base(ctx)).collect::<Result<_, _>>()?;
    let views: Vec<Tensor> = arrays.iter().zip(&bases).map(|(a, b)| a.of(b)).collect::<Result<_, _>>()?;
    Ok((row.body)(ctx, dtype, &views).map(|y| (y, bases)).map_err(|e| kind(&e)))
}

fn one(environment: &Environment<'_>, row: &Row, arrays: &[Array], _: Draw) -> Checked {
    let expected = computed(&Dyn::new(Oracle), environment.dtype, row, arrays)?;
    let got = computed(environment.ctx, environment.dtype, row, arrays)?;
    let ((expected, _), (got, bases)) = match (expected, got) {
        (Ok(e), Ok(g)) => (e, g),
        (Err(e), Err(g)) if e == g => return Ok(Measured::default()),
        (Err(e), Err(g)) => return Err(Failure::new("", format!("the error is {g}, expected {e}"))),
        (Ok(_), Err(g)) => return Err(Failure::new("", format!("the error {g} where there is a result"))),
        (Err(e), Ok(_)) => return Err(Failure::new("", format!("a result where there is the error {e}"))),
    };
    same_form(&got, &expected)?;
    let measured = compare(got.dtype(), &got.to_values()?, &cells(&expected)?)?;
    for (k, (base, array)) in bases.iter().zip(arrays).enumerate() {
        if base.to_bytes()? != array.bytes {
            return Err(Failure::new("", format!("input {k} was written")));
        }
    }
    Ok(measured)
}

fn same_form(got: &Tensor, expected: &Tensor) -> Result<(), Failure> {
    if got.shape() == expected.shape() && got.dtype() == expected.dtype() {
        return Ok(());
    }
    Err(Failure::new(
        "",
        format!("it is {} {:?}, expected {} {:?}", got.dtype(), got.shape(), expected.dtype(), expected.shape()),
    ))
}

/// All 2^32 numbers of f32, a part at a time, on as many threads as there are processors.
fn every_number(environment: &Environment<'_>, row: &Row) -> Checked {
    const PART: u32 = 1 << 20;
    const PARTS: u32 = 1 << 12;
    let (next, done) = (AtomicU32::new(0), AtomicU32::new(0));
    let work = || -> Checked {
        let mut measured = Measured::default();
        loop {
            let part = next.fetch_add(1, Ordering::Relaxed);
            if part >= PARTS {
                return Ok(measured);
            }
            let numbers = (0..PART).map(|i| f32::from_bits(part * PART + i));
            let values: Vec<Value> = numbers.map(Value::F32).collect();
            let arrays = [Array::dense(DType::F32, &[values.len()], &values)];
            let checked = one(environment, row, &arrays, Draw::Patterns(PART as usize)).map_err(|f| {
                // The others stop as well.
                next.store(PARTS, Ordering::Relaxed);
                Failure { variant: format!("every number, from bits {:#x} on", part * PART), ..f }
            });
            measured.merge(&checked?);
            environment.progress.reached(u64::from(done.fetch_add(1, Ordering::Relaxed)) + 1, u64::from(PARTS));
        }
    };
    std::thread::scope(|scope| {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        let lost = || Err(Failure::new("every number", "it panicked"));
        total(workers.into_iter().map(|w| w.join().unwrap_or_else(|_| lost())))
    })
}

/// What is created is the same everywhere, bit for bit; random numbers too.
fn created(environment: &Environment<'_>, row: &Row) -> Checked {
    let got = (row.body)(environment.ctx, environment.dtype, &[])?;
    let expected = (row.body)(&Dyn::new(Reference), environment.dtype, &[])?;
    same_form(&got, &expected)?;
    let (got, expected) = (got.to_values()?, expected.to_values()?);
    match (0..got.len()).find(|&i| got[i] != expected[i]) {
        None => Ok(Measured { elements: got.len(), ..Measured::default() }),
        Some(i) => Err(Failure {
            why: "it is not the reference's number, bit for bit".into(),
            element: Some(i),
            expected: expected[i].to_string(),
            got: got[i].to_string(),
            ulp: f64::NAN,
            ..Failure::default()
        }),
    }
}
