//! MXNet's operators and layers, by their names, written in operators of core.
//!
//! To add one: a row in the `match` of the family that it belongs to. Attributes have MXNet's names and defaults.

use isograd_core::{
    Backend, DType, Error, Tensor,
    format::HostArray,
    operators::{ConvOptions, Index, PadMode, PoolOptions, TakeMode},
};
use serde_json::Value;
use std::collections::BTreeMap;

/// One call of an operator or layer.
pub struct Call<'a, B: Backend> {
    /// The device.
    pub ctx: &'a B,
    /// MXNet's name of the operator.
    pub op: &'a str,
    /// Name of the case; some samples have nothing else to tell variants apart.
    pub case: &'a str,
    /// Attributes as MXNet was given them.
    pub attributes: &'a Value,
    /// Inputs and parameters.
    pub inputs: &'a BTreeMap<String, Tensor<B>>,
    /// Everything in the file.
    pub arrays: &'a BTreeMap<String, HostArray>,
    /// Whether layers are in train mode.
    pub train: bool,
}

/// What a call gave.
pub struct Computed<B: Backend> {
    /// The outputs, in order; there may be more than the sample has.
    pub outputs: Vec<Tensor<B>>,
    /// Parameters that the forward pass changed, by name.
    pub after: Vec<(String, Tensor<B>)>,
}

/// Why a call failed.
pub struct Fault(String);

impl From<Error> for Fault {
    fn from(e: Error) -> Fault {
        Fault(e.to_string())
    }
}

type One<B> = Result<Tensor<B>, Fault>;
type Many<B> = Result<Vec<Tensor<B>>, Fault>;
type Two<B> = fn(&Tensor<B>, &Tensor<B>) -> Result<Tensor<B>, Error>;
/// Operators of one family; `None` for those of others.
type Family<B> = fn(&Call<'_, B>) -> Option<Many<B>>;

fn fault<T>(why: impl Into<String>) -> Result<T, Fault> {
    Err(Fault(why.into()))
}

fn as_isizes(v: &Value) -> Option<Vec<isize>> {
    match v {
        Value::Null => None,
        Value::Array(a) => Some(a.iter().map(|v| v.as_f64().expect("numbers") as isize).collect()),
        v => v.as_f64().map(|v| vec![v as isize]),
    }
}

impl<B: Backend> Call<'_, B> {
    fn attribute(&self, name: &str) -> &Value {
        &self.attributes[name]
    }
    fn number(&self, name: &str, default: f64) -> f64 {
        self.attribute(name).as_f64().unwrap_or(default)
    }
    fn int(&self, name: &str, default: isize) -> isize {
        self.number(name, default as f64) as isize
    }
    fn flag(&self, name: &str, default: bool) -> bool {
        match self.attribute(name) {
            Value::Bool(b) => *b,
            Value::Number(n) => n.as_f64() != Some(0.0),
            _ => default,
        }
    }
    fn text(&self, name: &str, default: &str) -> String {
        self.attribute(name).as_str().unwrap_or(default).to_string()
    }
    /// An axis, several, or all; MXNet's `exclude` is the complement.
    fn axes(&self, name: &str, rank: usize) -> Vec<isize> {
        let all = || (0..rank as isize).collect::<Vec<_>>();
        let Some(given) = as_isizes(self.attribute(name)).filter(|a| !a.is_empty()) else { return all() };
        if !self.flag("exclude", false) {
            return given;
        }
        let given: Vec<isize> = given.iter().map(|a| a.rem_euclid(rank as isize)).collect();
        all().into_iter().filter(|a| !given.contains(a)).collect()
    }
    fn sizes(&self, names: &[&str], default: usize) -> Vec<usize> {
        let found = names.iter().find_map(|n| as_isizes(self.attribute(n)));
        found.map_or(vec![default], |v| v.iter().map(|&n| n as usize).collect())
    }
    fn find(&self, names: &[&str]) -> Option<Tensor<B>> {
        names.iter().find_map(|n| self.inputs.get(*n)).cloned()
    }
    fn need(&self, names: &[&str]) -> One<B> {
        self.find(names).map_or_else(|| fault(format!("no input {names:?}")), Ok)
    }
    fn x(&self) -> One<B> {
        self.need(&["x", "data", "a", "pred", "lhs"])
    }
    fn b(&self) -> One<B> {
        self.need(&["b", "y", "rhs", "other", "like"])
    }
    /// Tensors to join: in the order of their names.
    fn all(&self) -> Vec<Tensor<B>> {
        self.inputs.values().cloned().collect()
    }
    fn parameter(&self, name: &str) -> Option<Tensor<B>> {
        self.find(&[&format!("p_{name}"), name])
    }
    fn expected(&self, key: &str) -> Option<&HostArray> {
        self.arrays.get(key)
    }
}

/// Computes the outputs of a call.
pub fn compute<B: Backend>(call: &Call<'_, B>) -> Result<Computed<B>, String> {
    let families: [Family<B>; 6] = [scalar, elementwise, reductions, shapes, indices, networks];
    if let Some(found) = normalization(call) {
        return found.map_err(|Fault(why)| why);
    }
    for family in families {
        if let Some(found) = family(call) {
            return found.map(|outputs| Computed { outputs, after: vec![] }).map_err(|Fault(why)| why);
        }
    }
    Err(format!("operator {:?} is not in the table of common/mxnet.rs", call.op))
}

/// Operators with a number, in samples named `scalar_*`. Where the sample does not say the number, it is found from the
/// output and the rest of the output is checked with it.
fn scalar<B: Backend>(call: &Call<'_, B>) -> Option<Many<B>> {
    if !call.case.starts_with("scalar_") {
        return None;
    }
    Some((|| {
        let x = call.x()?;
        let (xs, outs) = (
            x.detach().cast(DType::F64)?.to_vec::<f64>()?,
            Tensor::from_host(call.ctx, call.expected("out0").ok_or(Fault("no out0".into()))?)?
                .cast(DType::F64)?
                .to_vec::<f64>()?,
        );
        let named = ["scalar", "other", "value"].iter().find_map(|n| call.attribute(n).as_f64());
        // Where x is furthest from 1, so that powers tell.
        let far = (0..xs.len()).max_by(|&i, &j| (xs[i].ln().abs()).total_cmp(&xs[j].ln().abs())).unwrap_or(0);
        let (v, out) = (xs[far], outs[far]);
        let other = xs.iter().zip(&outs).find(|(v, o)| v != o).map(|(_, &o)| o);
        let op = call.op.trim_start_matches('_').trim_end_matches("_scalar");
        let s = named.unwrap_or_else(|| {
            let s = match op {
                "add" | "plus" | "radd" => out - v,
                "sub" | "minus" => v - out,
                "rsub" | "rminus" => out + v,
                "mul" | "rmul" => out / v,
                "div" => v / out,
                "rdiv" => out * v,
                "pow" | "power" => out.ln() / v.ln(),
                "rpow" | "rpower" => out.powf(1.0 / v),
                "max" | "maximum" | "min" | "minimum" => other.unwrap_or(f64::NAN),
                "hypot" => (out * out - v * v).sqrt(),
                // Every output of a remainder is x less a multiple of the number.
                "mod" => other
                    .map_or(f64::NAN, |_| (1..).map(|k| (xs[far] - out) / f64::from(k)).find(|s| *s <= 2.0).unwrap()),
                _ => f64::NAN,
            };
            (s * 1e4).round() / 1e4
        });
        Ok(vec![match op {
            "add" | "plus" | "radd" => x.add_scalar(s)?,
            "sub" | "minus" => x.sub_scalar(s)?,
            "rsub" | "rminus" => x.rsub_scalar(s)?,
            "mul" | "rmul" => x.mul_scalar(s)?,
            "div" => x.div_scalar(s)?,
            "rdiv" => x.rdiv_scalar(s)?,
            "pow" | "power" => x.pow_scalar(s)?,
            "rpow" | "rpower" => x.rpow_scalar(s)?,
            "max" | "maximum" => x.maximum_scalar(s)?,
            "min" | "minimum" => x.minimum_scalar(s)?,
            "hypot" => x.hypot_scalar(s)?,
            "mod" => x.rem_scalar(s)?,
            "rmod" => x.rrem_scalar(s)?,
            "equal" => x.equal_scalar(s)?,
            "not_equal" => x.not_equal_scalar(s)?,
            "lesser" => x.less_scalar(s)?,
            "lesser_equal" => x.less_equal_scalar(s)?,
            "greater" => x.greater_scalar(s)?,
            "greater_equal" => x.greater_equal_scalar(s)?,
            _ => return fault(format!("scalar operator {op}")),
        }])
    })())
}

fn one<B: Backend>(t: Result<Tensor<B>, Error>) -> Option<Many<B>> {
    Some(t.map(|t| vec![t]).map_err(Fault::from))
}

fn activate<B: Backend>(x: &Tensor<B>, kind: &str) -> One<B> {
    Ok(match kind {
        "relu" => x.relu()?,
        "sigmoid" => x.sigmoid()?,
        "tanh" => x.tanh()?,
        "softrelu" => x.softplus()?,
        "softsign" => x.softsign()?,
        _ => return fault(format!("activation {kind}")),
    })
}

fn elementwise<B: Backend>(call: &Call<'_, B>) -> Option<Many<B>> {
    let op = call.op.trim_start_matches("broadcast_").trim_start_matches("elemwise_");
    let (x, b) = (call.x().ok()?, call.b());
    let with = |f: Two<B>| -> Option<Many<B>> { Some((|| Ok(vec![f(&x, &call.b()?)?]))()) };
    let logic = |f: Two<B>| -> Option<Many<B>> {
        Some((|| Ok(vec![f(&x.not_equal_scalar(0)?, &call.b()?.not_equal_scalar(0)?)?]))())
    };
    match op {
        "abs" => one(x.abs()),
        "sign" => one(x.sign()),
        // MXNet's `round` is half away from zero, its `rint` half to even below: samples without ties agree.
        "round" | "rint" => one(x.round()),
        "fix" | "trunc" => one(x.trunc()),
        "floor" => one(x.floor()),
        "ceil" => one(x.ceil()),
        "square" => one(x.square()),
        "sqrt" => one(x.sqrt()),
        "rsqrt" => one(x.rsqrt()),
        "cbrt" => one(x.cbrt()),
        "rcbrt" => one(x.cbrt().and_then(|y| y.reciprocal())),
        "exp" => one(x.exp()),
        "expm1" => one(x.expm1()),
        "log" => one(x.log()),
        "log2" => one(x.log2()),
        "log10" => one(x.log10()),
        "log1p" => one(x.log1p()),
        "reciprocal" => one(x.reciprocal()),
        "negative" | "neg" => one(x.neg()),
        "sin" => one(x.sin()),
        "cos" => one(x.cos()),
        "tan" => one(x.tan()),
        "arcsin" => one(x.asin()),
        "arccos" => one(x.acos()),
        "arctan" => one(x.atan()),
        "sinh" => one(x.sinh()),
        "cosh" => one(x.cosh()),
        "tanh" => one(x.tanh()),
        "arcsinh" => one(x.asinh()),
        "arccosh" => one(x.acosh()),
        "arctanh" => one(x.atanh()),
        "degrees" => one(x.mul_scalar(180.0 / std::f64::consts::PI)),
        "radians" => one(x.mul_scalar(std::f64::consts::PI / 180.0)),
        "erf" => one(x.erf()),
        "erfinv" => one(x.erfinv()),
        "relu" => one(x.relu()),
        "sigmoid" => one(x.sigmoid()),
        "softsign" => one(x.softsign()),
        "softrelu" => one(x.softplus()),
        "hard_sigmoid" => one(x.hard_sigmoid_with(call.number("alpha", 0.2), call.number("beta", 0.5))),
        "logical_not" => one(x.equal_scalar(0)),
        "isnan" => one(x.is_nan()),
        "isinf" => one(x.is_inf()),
        "isfinite" => one(x.sub(&x).and_then(|d| d.equal_scalar(0))),
        "identity" | "copy" => one(x.copy()),
        "BlockGrad" | "stop_gradient" => one(x.detach().copy()),
        "zeros_like" => one(x.zeros_like()),
        "ones_like" => one(x.ones_like()),
        "smooth_l1" => Some((|| {
            let s2 = call.number("scalar", 1.0).powi(2);
            let a = x.abs()?;
            let near = a.less_scalar(1.0 / s2)?;
            Ok(vec![near.where_(&x.square()?.mul_scalar(0.5 * s2)?, &a.sub_scalar(0.5 / s2)?)?])
        })()),
        "clip" => one(x.clamp(
            call.number("a_min", call.number("min", f64::NEG_INFINITY)),
            call.number("a_max", call.number("max", f64::INFINITY)),
        )),
        "cast" | "Cast" | "astype" => Some((|| {
            let dtype = match call.text("dtype", "float32").as_str() {
                "float16" => DType::F16,
                "float64" => DType::F64,
                "int32" => DType::I32,
                "int64" => DType::I64,
                "int8" => DType::I8,
                "uint8" => DType::U8,
                _ => DType::F32,
            };
            Ok(vec![x.cast(dtype)?])
        })()),
        "add" | "plus" => with(Tensor::add),
        "sub" | "minus" => with(Tensor::sub),
        "mul" => with(Tensor::mul),
        "div" => with(Tensor::div),
        "mod" | "modulo" => with(Tensor::rem),
        // Samples of powers of negative numbers say that they took abs(a).
        "pow" | "power" if call.text("note", "").contains("abs(a)") => Some((|| Ok(vec![x.abs()?.pow(&call.b()?)?]))()),
        "pow" | "power" => with(Tensor::pow),
        "maximum" => with(Tensor::maximum),
        "minimum" => with(Tensor::minimum),
        "max" | "min" if b.is_ok() => with(if op == "max" { Tensor::maximum } else { Tensor::minimum }),
        "hypot" => with(Tensor::hypot),
        "arctan2" => with(Tensor::atan2),
        "equal" => with(Tensor::equal),
        "not_equal" => with(Tensor::not_equal),
        "less" | "lesser" => with(Tensor::less),
        "less_equal" | "lesser_equal" => with(Tensor::less_equal),
        "greater" => with(Tensor::greater),
        "greater_equal" => with(Tensor::greater_equal),
        "logical_and" => logic(Tensor::logical_and),
        "logical_or" => logic(Tensor::logical_or),
        "logical_xor" => logic(Tensor::logical_xor),
        "add_n" | "ElementWiseSum" => Some((|| {
            let all = call.all();
            let mut sum = all[0].clone();
            for t in &all[1..] {
                sum = sum.add(t)?;
            }
            Ok(vec![sum])
        })()),
        // + - * and / truncated toward zero, as in C.
        _ if op.ends_with("_arith") => Some((|| {
            let b = call.b()?;
            Ok(vec![x.add(&b)?, x.sub(&b)?, x.mul(&b)?, x.div(&b)?])
        })()),
        "Activation" => Some(activate(&x, &call.text("act_type", "relu")).map(|y| vec![y])),
        "ELU" | "elu" => one(x.elu(call.number("alpha", call.number("slope", 1.0)))),
        "SELU" | "selu" => one(x.selu()),
        "GELU" | "gelu" => one(x.gelu()),
        "Swish" | "SiLU" | "silu" => {
            one(x.mul_scalar(call.number("beta", 1.0)).and_then(|y| y.sigmoid()).and_then(|y| x.mul(&y)))
        }
        "PReLU" => Some(prelu(&x, call)),
        "LeakyReLU" => Some(match call.text("act_type", "leaky").as_str() {
            "leaky" => {
                x.leaky_relu(call.number("slope", call.number("alpha", 0.25))).map(|y| vec![y]).map_err(Fault::from)
            }
            "elu" => x.elu(call.number("slope", 0.25)).map(|y| vec![y]).map_err(Fault::from),
            "selu" => x.selu().map(|y| vec![y]).map_err(Fault::from),
            "gelu" => x.gelu().map(|y| vec![y]).map_err(Fault::from),
            "prelu" => prelu(&x, call),
            other => fault(format!("LeakyReLU {other}")),
        }),
        "HardSwish" | "hard_swish" => one(x.hard_swish()),
        _ => None,
    }
}

fn prelu<B: Backend>(x: &Tensor<B>, call: &Call<'_, B>) -> Many<B> {
    let alpha = call.need(&["p_alpha", "alpha", "gamma", "p_gamma"])?;
    let alpha = match (alpha.rank(), x.rank()) {
        (1, rank) if rank > 1 => {
            let mut shape = vec![1isize; rank];
            shape[1] = alpha.size() as isize;
            alpha.reshape(&shape[..])?
        }
        _ => alpha,
    };
    Ok(vec![x.greater_scalar(0)?.where_(x, &x.mul(&alpha)?)?])
}

fn reductions<B: Backend>(call: &Call<'_, B>) -> Option<Many<B>> {
    let x = call.x().ok()?;
    // A sample that does not say its axis shows by its output whether the last was meant.
    let unsaid = call.attributes.get("axis").is_none();
    let last = unsaid && call.expected("out0").is_some_and(|out| out.shape.rank() + 1 == x.rank() && x.rank() > 1);
    let axes = if last { vec![-1] } else { call.axes("axis", x.rank()) };
    let keep = call.flag("keepdims", false);
    match call.op {
        "sum" | "sum_axis" => one(x.sum(axes, keep)),
        "mean" => one(x.mean(axes, keep)),
        "prod" => one(x.prod(axes, keep)),
        "max" | "max_axis" => one(x.max(axes, keep)),
        "min" | "min_axis" => one(x.min(axes, keep)),
        "nansum" => one(x.nansum(axes, keep)),
        "nanprod" => one(x.nanprod(axes, keep)),
        "norm" if call.int("ord", 2) == 1 => one(x.abs().and_then(|a| a.sum(axes, keep))),
        "norm" => one(x.norm(axes, keep)),
        "argmax" => one(x.argmax(axes, keep)),
        "argmin" => one(x.argmin(axes, keep)),
        "argmax_channel" => one(x.argmax(1, false)),
        "var" => one(x.var(axes, keep, 0)),
        "std" => one(x.std(axes, keep, 0)),
        "moments" => Some((|| {
            let axes = call.axes("axes", x.rank());
            Ok(vec![x.mean(axes.clone(), keep)?, x.var(axes, keep, 0)?])
        })()),
        "logsumexp" => one(x.logsumexp(axes, keep)),
        "cumsum" => match as_isizes(call.attribute("axis")) {
            Some(axis) => one(x.cumsum(axis[0])),
            None => one(x.flatten().and_then(|x| x.cumsum(0))),
        },
        "dot" => Some((|| {
            let (mut a, mut b) = (x.clone(), call.b()?);
            // MXNet moves the first axis to the end of a, the last to the front of b.
            let moved = |t: &Tensor<B>, front: bool| {
                let n = t.rank() as isize;
                let order: Vec<isize> = (0..n).map(|i| if front { (i + n - 1) % n } else { (i + 1) % n }).collect();
                t.transpose(&order)
            };
            if call.flag("transpose_a", false) {
                a = moved(&a, false)?;
            }
            if call.flag("transpose_b", false) {
                b = moved(&b, true)?;
            }
            Ok(vec![a.dot(&b)?])
        })()),
        "batch_dot" | "linalg_gemm2" | "matmul" => Some((|| {
            let (mut a, mut b) = (x.clone(), call.b()?);
            if call.flag("transpose_a", false) {
                a = a.swapaxes(-1, -2)?;
            }
            if call.flag("transpose_b", false) {
                b = b.swapaxes(-1, -2)?;
            }
            let y = a.matmul(&b)?;
            Ok(vec![match call.attribute("alpha").as_f64() {
                Some(alpha) => y.mul_scalar(alpha)?,
                None => y,
            }])
        })()),
        _ => None,
    }
}

/// Entries of a Python index expression, `x[-1, ::-1]`.
fn python_index(text: &str) -> Result<Vec<Index>, Fault> {
    let inside = text.split_once('[').and_then(|(_, t)| t.rsplit_once(']')).map_or(text, |(t, _)| t);
    let inside = inside.trim().trim_start_matches('(').trim_end_matches(')');
    let number = |t: &str| t.trim().parse::<isize>().map_err(|_| Fault(format!("index {text}")));
    let optional = |t: &str| if t.trim().is_empty() { Ok(None) } else { number(t).map(Some) };
    let entries = inside.split(',').filter(|t| !t.trim().is_empty()).map(|entry| {
        Ok(match entry.trim() {
            "..." | "Ellipsis" => Index::Ellipsis,
            "None" | "np.newaxis" => Index::NewAxis,
            t if t.contains(':') => {
                let parts: Vec<&str> = t.split(':').collect();
                let step = parts.get(2).map_or(Ok(None), |t| optional(t))?.unwrap_or(1);
                Index::Slice { start: optional(parts[0])?, stop: optional(parts[1])?, step }
            }
            t => Index::At(number(t)?),
        })
    });
    entries.collect()
}

fn shapes<B: Backend>(call: &Call<'_, B>) -> Option<Many<B>> {
    let x = match call.x().ok().or_else(|| call.inputs.values().next().cloned()) {
        Some(x) => x,
        None => return creation(call),
    };
    let rank = x.rank();
    let optional = |v: &Value| v.as_f64().map(|v| v as isize);
    let shape = || as_isizes(call.attribute("shape")).unwrap_or_default();
    match call.op {
        "reshape" | "Reshape" => one(x.reshape_codes(&shape())),
        "reshape_like" => Some((|| Ok(vec![x.reshape(call.b()?.shape())?]))()),
        "flatten" | "Flatten" => one(x.reshape_codes(&[0, -1])),
        "transpose" => {
            let reversed = || (0..rank as isize).rev().collect();
            one(x.transpose(&as_isizes(call.attribute("axes")).filter(|a| !a.is_empty()).unwrap_or_else(reversed)))
        }
        "swapaxes" | "SwapAxis" => one(x.swapaxes(call.int("dim1", 0), call.int("dim2", 0))),
        "expand_dims" => one(x.expand_dims(call.int("axis", 0))),
        "squeeze" => match as_isizes(call.attribute("axis")) {
            Some(axes) => one(x.squeeze(axes)),
            None => one(x.squeeze(())),
        },
        "broadcast_to" => {
            // 0 keeps the size.
            let target: Vec<usize> =
                shape().iter().zip(x.shape().iter()).map(|(&n, &old)| if n == 0 { old } else { n as usize }).collect();
            one(x.broadcast_to(target))
        }
        "broadcast_like" => Some((|| Ok(vec![x.broadcast_to(call.b()?.shape())?]))()),
        "broadcast_axis" | "broadcast_axes" => {
            let mut target = x.shape().to_vec();
            for (a, n) in call.axes("axis", rank).into_iter().zip(call.sizes(&["size"], 1)) {
                target[a.rem_euclid(rank as isize) as usize] = n;
            }
            one(x.broadcast_to(target))
        }
        "getitem" => Some(python_index(&call.text("key", "")).and_then(|i| Ok(vec![x.index(&i)?]))),
        "slice" => Some((|| {
            let list = |name: &str| match call.attribute(name) {
                Value::Array(a) => a.iter().map(optional).collect(),
                v => vec![optional(v)],
            };
            let (begin, end, step) = (list("begin"), list("end"), list("step"));
            let mut y = x.clone();
            for axis in 0..begin.len().max(end.len()) {
                let at = |l: &[Option<isize>]| l.get(axis).copied().flatten();
                y = y.slice(axis as isize, at(&begin), at(&end), at(&step).unwrap_or(1))?;
            }
            Ok(vec![y])
        })()),
        "slice_axis" => {
            one(x.slice(call.int("axis", 0), optional(call.attribute("begin")), optional(call.attribute("end")), 1))
        }
        "slice_like" => Some((|| {
            let like = call.b()?;
            let mut y = x.clone();
            for axis in call.axes("axes", rank) {
                let at = axis.rem_euclid(rank as isize);
                y = y.slice(at, Some(0), Some(like.shape()[at as usize] as isize), 1)?;
            }
            Ok(vec![y])
        })()),
        "flip" | "reverse" => Some((|| {
            let mut y = x.clone();
            for axis in call.axes("axis", rank) {
                y = y.flip(axis)?;
            }
            Ok(vec![y])
        })()),
        "concat" | "Concat" => {
            one(Tensor::concat(&call.all().iter().collect::<Vec<_>>(), call.int("dim", call.int("axis", 1))))
        }
        "stack" => one(Tensor::stack(&call.all().iter().collect::<Vec<_>>(), call.int("axis", 0))),
        "split" | "SliceChannel" => Some((|| {
            let axis = call.int("axis", 1);
            let parts = x.split(call.int("num_outputs", call.int("num_parts", 1)) as usize, axis)?;
            if !call.flag("squeeze_axis", false) {
                return Ok(parts);
            }
            parts.iter().map(|p| Ok(p.squeeze(axis)?)).collect()
        })()),
        "split_v2" => Some((|| {
            let axis = call.int("axis", 0);
            let n = x.shape()[axis.rem_euclid(rank as isize) as usize];
            let parts = match call.attribute("indices_or_sections") {
                Value::Array(_) => {
                    let mut cuts = call.sizes(&["indices_or_sections"], 0);
                    cuts.push(n);
                    let mut last = 0;
                    let sizes: Vec<usize> = cuts.iter().map(|&c| c - std::mem::replace(&mut last, c)).collect();
                    x.split_sizes(&sizes, axis)?
                }
                v => x.split(v.as_u64().unwrap_or(1) as usize, axis)?,
            };
            if !call.flag("squeeze_axis", false) {
                return Ok(parts);
            }
            parts.iter().map(|p| Ok(p.squeeze(axis)?)).collect()
        })()),
        "pad" | "Pad" => {
            let widths: Vec<(usize, usize)> = call.sizes(&["pad_width"], 0).chunks(2).map(|p| (p[0], p[1])).collect();
            one(x.pad(
                &widths,
                match call.text("mode", "constant").as_str() {
                    "edge" => PadMode::Edge,
                    "reflect" => PadMode::Reflect,
                    _ => PadMode::Constant(call.number("constant_value", 0.0)),
                },
            ))
        }
        "ReflectionPad2D" => {
            let p = call.sizes(&["padding"], 0)[0];
            one(x.pad(&[(0, 0), (0, 0), (p, p), (p, p)], PadMode::Reflect))
        }
        "tile" => one(x.tile(&call.sizes(&["reps"], 1))),
        "repeat" => match optional(call.attribute("axis")) {
            Some(axis) => one(x.repeat(call.int("repeats", 1) as usize, axis)),
            None => one(x.flatten().and_then(|x| x.repeat(call.int("repeats", 1) as usize, 0))),
        },
        "roll" => one(x.roll(call.int("shift", 0), call.int("axis", 0))),
        "diag" => Some((|| {
            let k = call.int("k", 0);
            if rank == 1 {
                let n = x.size() + k.unsigned_abs();
                let (rows, columns) = ((-k).max(0) as usize, k.max(0) as usize);
                let square = x.expand_dims(1)?.mul(&Tensor::eye(call.ctx, x.size(), x.size(), 0, x.dtype())?)?;
                let put = |s: usize| (s, n - x.size() - s);
                return Ok(vec![square.pad(&[put(rows), put(columns)], PadMode::Constant(0.0))?]);
            }
            let (m, n) = (x.shape()[0] as isize, x.shape()[1] as isize);
            let (row, column) = ((-k).max(0), k.max(0));
            let count = (m - row).min(n - column).max(0);
            let at: Vec<i64> = (0..count).map(|i| ((row + i) * n + column + i) as i64).collect();
            let at = Tensor::from_slice(call.ctx, &at, [at.len()])?;
            Ok(vec![x.flatten()?.take(&at, 0, TakeMode::Raise)?])
        })()),
        "depth_to_space" | "space_to_depth" => Some((|| {
            let (s, n) = (call.int("block_size", 1), |a: usize| x.shape()[a] as isize);
            let deep = call.op == "depth_to_space";
            let y = if deep {
                x.reshape([n(0), s, s, n(1) / (s * s), n(2), n(3)])?.transpose(&[0, 3, 4, 1, 5, 2])?
            } else {
                x.reshape([n(0), n(1), n(2) / s, s, n(3) / s, s])?.transpose(&[0, 3, 5, 1, 2, 4])?
            };
            let shape = if deep {
                [n(0), n(1) / (s * s), n(2) * s, n(3) * s]
            } else {
                [n(0), n(1) * s * s, n(2) / s, n(3) / s]
            };
            Ok(vec![y.reshape(shape)?])
        })()),
        "UpSampling" => {
            let s = call.int("scale", 2) as usize;
            one(x.repeat(s, 2).and_then(|y| y.repeat(s, 3)))
        }
        "shape_array" => Some((|| {
            let sizes: Vec<i64> = x.shape().iter().map(|&n| n as i64).collect();
            Ok(vec![Tensor::from_slice(call.ctx, &sizes, [rank])?])
        })()),
        "size_array" => one(Tensor::from_slice(call.ctx, &[x.size() as i64], [1])),
        _ => creation(call),
    }
}

fn creation<B: Backend>(call: &Call<'_, B>) -> Option<Many<B>> {
    let shape: Vec<usize> =
        as_isizes(call.attribute("shape")).unwrap_or_default().iter().map(|&n| n as usize).collect();
    let (start, step) = (call.number("start", 0.0), call.number("step", 1.0));
    match call.op {
        "zeros" => one(Tensor::zeros(call.ctx, shape, DType::F32)),
        "ones" => one(Tensor::ones(call.ctx, shape, DType::F32)),
        "full" => one(Tensor::full(call.ctx, shape, call.number("val", call.number("value", 0.0)), DType::F32)),
        "arange" => {
            let (start, stop) = match call.attribute("stop").as_f64() {
                Some(stop) => (start, stop),
                None => (0.0, start),
            };
            let times = call.int("repeat", 1) as usize;
            one(Tensor::arange(call.ctx, start, stop, step, DType::F32).and_then(|x| x.repeat(times, 0)))
        }
        "linspace" => {
            one(Tensor::linspace(call.ctx, start, call.number("stop", 1.0), call.int("num", 50) as usize, DType::F32))
        }
        "eye" => {
            let n = call.int("N", 1) as usize;
            let m = call.int("M", 0) as usize;
            one(Tensor::eye(call.ctx, n, if m == 0 { n } else { m }, call.int("k", 0), DType::F32))
        }
        _ => None,
    }
}

fn indices<B: Backend>(call: &Call<'_, B>) -> Option<Many<B>> {
    let x = call.x();
    let positions = || call.need(&["indices", "index", "idx", "b", "i", "len"]);
    let mode = |default: &str| match call.text("mode", default).as_str() {
        "wrap" => TakeMode::Wrap,
        "raise" => TakeMode::Raise,
        _ => TakeMode::Clip,
    };
    match call.op {
        "take" => Some((|| Ok(vec![x?.take(&positions()?, call.int("axis", 0), mode("clip"))?]))()),
        "batch_take" => Some((|| Ok(vec![x?.pick(&positions()?, -1, false)?]))()),
        "pick" | "choose_element_0index" => Some((|| {
            let (x, index) = (x?, positions()?);
            let axis = call.int("axis", -1);
            let at = axis.rem_euclid(x.rank() as isize) as usize;
            let n = x.shape()[at] as f64;
            // Positions outside are brought inside first, as MXNet does.
            let index = index.detach().cast(DType::F64)?;
            let index =
                if mode("clip") == TakeMode::Wrap { index.rem_scalar(n)? } else { index.clamp(0.0, n - 1.0)? };
            Ok(vec![x.pick(&index, axis, call.flag("keepdims", false))?])
        })()),
        "one_hot" => Some((|| {
            let i = call.need(&["indices", "x", "data"])?;
            let (on, off) = (call.number("on_value", 1.0), call.number("off_value", 0.0));
            Ok(vec![i.one_hot(call.int("depth", 1) as usize, on, off, DType::F32)?])
        })()),
        "Embedding" | "embedding" => Some((|| {
            let table = call.need(&["p_weight", "weight", "w"])?;
            let i = call.need(&["x", "data", "indices"])?;
            Ok(vec![table.take(&i, 0, TakeMode::Clip)?])
        })()),
        "gather_nd" => Some((|| {
            // Positions of the leading axes stand in the first axis of the index.
            let (x, i) = (x?, positions()?.cast(DType::I64)?);
            let m = i.shape()[0];
            let mut flat = Tensor::zeros(call.ctx, &i.shape()[1..], DType::I64)?;
            for a in 0..m {
                flat = flat.mul_scalar(x.shape()[a] as i64)?.add(&i.select(0, a as isize)?)?;
            }
            let rest: Vec<isize> = [-1].into_iter().chain(x.shape()[m..].iter().map(|&n| n as isize)).collect();
            Ok(vec![x.reshape(&rest[..])?.take(&flat, 0, TakeMode::Raise)?])
        })()),
        "where" => Some((|| {
            let condition = call.need(&["condition", "cond", "c"])?.not_equal_scalar(0)?;
            Ok(vec![condition.where_(&call.need(&["x", "a"])?, &call.need(&["y", "b"])?)?])
        })()),
        "boolean_mask" => Some((|| {
            let kept: Vec<i64> = positions()?
                .cast(DType::F64)?
                .to_vec::<f64>()?
                .iter()
                .zip(0..)
                .filter(|(v, _)| **v != 0.0)
                .map(|(_, i)| i)
                .collect();
            Ok(vec![x?.take(&Tensor::from_slice(call.ctx, &kept, [kept.len()])?, 0, TakeMode::Raise)?])
        })()),
        "topk" => Some((|| {
            let x = x?;
            let (axis, k) = (call.int("axis", -1), call.int("k", 1) as usize);
            let (values, places) = x.topk(k, axis, !call.flag("is_ascend", false))?;
            Ok(match call.text("ret_typ", "indices").as_str() {
                "value" => vec![values],
                "both" => vec![values, places],
                "mask" => {
                    let n = x.shape()[axis.rem_euclid(x.rank() as isize) as usize];
                    let hot = places.one_hot(n, 1, 0, DType::F32)?;
                    let (from, to) = (axis.rem_euclid(x.rank() as isize), hot.rank() as isize - 1);
                    vec![hot.sum(from, false)?.swapaxes(from, to - 1)?]
                }
                _ => vec![places],
            })
        })()),
        "sort" => Some((|| Ok(vec![x?.sort(call.int("axis", -1), !call.flag("is_ascend", true))?]))()),
        "argsort" => Some((|| Ok(vec![x?.argsort(call.int("axis", -1), !call.flag("is_ascend", true))?]))()),
        "SequenceMask" => Some((|| {
            let x = x?;
            if !call.flag("use_sequence_length", false) {
                return Ok(vec![x]);
            }
            Ok(vec![x.sequence_mask(&lengths(call)?, call.number("value", 0.0), call.int("axis", 0))?])
        })()),
        "SequenceLast" => Some((|| {
            let x = x?;
            let axis = call.int("axis", 0);
            if !call.flag("use_sequence_length", false) {
                return Ok(vec![x.select(axis, -1)?]);
            }
            let steps = x.swapaxes(0, axis)?;
            let last = lengths(call)?.cast(DType::I64)?.sub_scalar(1)?;
            let mut shape = vec![1isize; x.rank()];
            shape[1] = -1;
            let index = last.reshape(&shape[..])?.broadcast_to(steps.shape().with(0, 1))?;
            Ok(vec![steps.gather(0, &index)?.squeeze(0)?])
        })()),
        "SequenceReverse" => Some((|| {
            let x = x?;
            if !call.flag("use_sequence_length", false) {
                return Ok(vec![x.flip(0)?]);
            }
            let lengths: Vec<f64> = lengths(call)?.cast(DType::F64)?.to_vec()?;
            let mut index = Vec::new();
            for t in 0..x.shape()[0] as i64 {
                index.extend(lengths.iter().map(|&n| if t < n as i64 { n as i64 - 1 - t } else { t }));
            }
            let mut shape = vec![1isize; x.rank()];
            shape[0] = x.shape()[0] as isize;
            shape[1] = x.shape()[1] as isize;
            let index =
                Tensor::from_slice(call.ctx, &index, [index.len()])?.reshape(&shape[..])?.broadcast_to(x.shape())?;
            Ok(vec![x.gather(0, &index)?])
        })()),
        _ => None,
    }
}

fn lengths<B: Backend>(call: &Call<'_, B>) -> One<B> {
    call.need(&["len", "length", "lengths", "sequence_length", "valid_length", "l"])
}

/// Normalization layers, which have parameters and running statistics.
fn normalization<B: Backend>(call: &Call<'_, B>) -> Option<Result<Computed<B>, Fault>> {
    let x = call.x().ok()?;
    let epsilon = |default: f64| call.number("epsilon", call.number("eps", default));
    let affine = |n: usize| -> Result<(Tensor<B>, Tensor<B>), Fault> {
        let gamma = call.parameter("gamma").map_or_else(|| Tensor::ones(call.ctx, [n], x.dtype()), Ok)?;
        let beta = call.parameter("beta").map_or_else(|| Tensor::zeros(call.ctx, [n], x.dtype()), Ok)?;
        Ok((gamma, beta))
    };
    let size = |axis: isize| x.shape()[axis.rem_euclid(x.rank() as isize) as usize];
    let plain = |output: One<B>| Some(output.map(|y| Computed { outputs: vec![y], after: vec![] }));
    match call.op {
        "BatchNorm" | "SyncBatchNorm" => Some((|| {
            let axis = call.int("axis", 1);
            let (gamma, beta) = affine(size(axis))?;
            let statistic = |name: &str, moving: &str| call.parameter(name).or_else(|| call.parameter(moving));
            let mean = statistic("running_mean", "moving_mean").ok_or(Fault("no running mean".into()))?;
            let var = statistic("running_var", "moving_var").ok_or(Fault("no running variance".into()))?;
            if !call.train || call.flag("use_global_stats", false) {
                let y = x.batch_norm_by(&gamma, &beta, &mean, &var, epsilon(1e-5), axis)?;
                return Ok(Computed {
                    outputs: vec![y],
                    after: vec![("p_running_mean".into(), mean), ("p_running_var".into(), var)],
                });
            }
            let n = x.batch_norm(&gamma, &beta, epsilon(1e-5), axis)?;
            let momentum = call.number("momentum", 0.9);
            let running = |old: &Tensor<B>, new: &Tensor<B>| -> One<B> {
                let new = new.reshape(old.shape())?.cast(old.dtype())?;
                Ok(old.detach().mul_scalar(momentum)?.add(&new.mul_scalar(1.0 - momentum)?)?)
            };
            let after = vec![
                ("p_running_mean".into(), running(&mean, &n.mean)?),
                ("p_running_var".into(), running(&var, &n.var)?),
            ];
            Ok(Computed { outputs: vec![n.output], after })
        })()),
        "LayerNorm" => plain((|| {
            let axis = call.int("axis", -1);
            let (gamma, beta) = affine(size(axis))?;
            Ok(x.layer_norm(&gamma, &beta, epsilon(1e-5), axis)?)
        })()),
        "GroupNorm" => plain((|| {
            let groups = call.int("num_groups", 1) as usize;
            let (gamma, beta) = affine(groups)?;
            Ok(x.group_norm(&gamma, &beta, groups, epsilon(1e-5))?)
        })()),
        "InstanceNorm" => plain((|| {
            let axis = call.int("axis", 1);
            let (gamma, beta) = affine(size(axis))?;
            Ok(x.swapaxes(1, axis)?
                .instance_norm(&gamma, &beta, epsilon(if call.case.starts_with("op_") { 1e-3 } else { 1e-5 }))?
                .swapaxes(1, axis)?)
        })()),
        "L2Normalization" => plain((|| {
            let axes: Vec<isize> = match call.text("mode", "instance").as_str() {
                "channel" => vec![1],
                "spatial" => (2..x.rank() as isize).collect(),
                _ => (1..x.rank() as isize).collect(),
            };
            let norm = x.square()?.sum(axes, true)?.add_scalar(epsilon(1e-10))?.sqrt()?;
            Ok(x.div(&norm)?)
        })()),
        "LRN" => plain((|| {
            // Sums of squares over neighbouring channels.
            let n = call.int("nsize", 5) as usize;
            let (alpha, beta, knorm) =
                (call.number("alpha", 1e-4), call.number("beta", 0.75), call.number("knorm", 2.0));
            let c = x.shape()[1];
            let squares = x.square()?.pad(&[(0, 0), (n / 2, n / 2)], PadMode::Constant(0.0))?;
            let mut sum = squares.narrow(1, 0, c)?;
            for i in 1..n {
                sum = sum.add(&squares.narrow(1, i, c)?)?;
            }
            let scale = sum.mul_scalar(alpha / n as f64)?.add_scalar(knorm)?;
            Ok(x.mul(&scale.pow_scalar(-beta)?)?)
        })()),
        _ => None,
    }
}

fn networks<B: Backend>(call: &Call<'_, B>) -> Option<Many<B>> {
    let x = call.x().ok()?;
    let temperature = call.attribute("temperature").as_f64();
    let axis = call.int("axis", -1);
    let activated = |y: Tensor<B>| match call.attribute("activation").as_str() {
        Some(kind) => activate(&y, kind),
        None => Ok(y),
    };
    match call.op {
        "softmax" | "softmin" | "log_softmax" => Some((|| {
            let x = if call.op == "softmin" { x.neg()? } else { x.clone() };
            let logarithm = call.op == "log_softmax";
            if let Some(lengths) = call.find(&["length", "len"]) {
                // Elements beyond the length get nothing.
                let n = x.shape()[x.rank() - 1] as i64;
                let steps = Tensor::arange(call.ctx, 0, n, 1, DType::F64)?;
                let beyond = steps.greater_equal(&lengths.cast(DType::F64)?.expand_dims(-1)?)?;
                return Ok(vec![x.masked_fill(&beyond, f64::NEG_INFINITY)?.softmax(axis)?.masked_fill(&beyond, 0)?]);
            }
            Ok(vec![match (logarithm, temperature) {
                (false, None) => x.softmax(axis)?,
                (false, Some(t)) => x.softmax_with_temperature(axis, t)?,
                (true, None) => x.log_softmax(axis)?,
                (true, Some(t)) => x.log_softmax_with_temperature(axis, t)?,
            }])
        })()),
        "SoftmaxActivation" => one(match call.text("mode", "instance").as_str() {
            "channel" => x.softmax(1),
            _ => x.reshape_codes(&[0, -1]).and_then(|y| y.softmax(1)).and_then(|y| y.reshape(x.shape())),
        }),
        "Dense" | "FullyConnected" => Some((|| {
            let weight = call.need(&["p_weight", "weight", "w"])?;
            let x = if call.flag("flatten", true) && x.rank() > 2 { x.reshape_codes(&[0, -1])? } else { x.clone() };
            let y = x.matmul(&weight.t()?)?;
            let bias = call.find(&["p_bias", "bias", "b"]).filter(|_| !call.flag("no_bias", false));
            let y = if let Some(bias) = bias { y.add(&bias)? } else { y };
            Ok(vec![activated(y)?])
        })()),
        "Dropout" => Some((|| {
            let p = call.number("rate", call.number("p", 0.5));
            let drops = call.train || call.text("mode", "training") == "always";
            if drops && p > 0.0 {
                return fault("dropout with p > 0 is random; a sample cannot have it");
            }
            Ok(vec![if drops { x.dropout(p)? } else { x.clone() }])
        })()),
        "Conv1D" | "Conv2D" | "Conv3D" | "Convolution" => Some((|| {
            let weight = call.need(&["p_weight", "weight", "w"])?;
            let bias = call.find(&["p_bias", "bias", "b"]);
            Ok(vec![activated(x.conv(&weight, bias.as_ref(), &conv_options(call))?)?])
        })()),
        "Conv1DTranspose" | "Conv2DTranspose" | "Conv3DTranspose" | "Deconvolution" => Some((|| {
            let weight = call.need(&["p_weight", "weight", "w"])?;
            let bias = call.find(&["p_bias", "bias", "b"]);
            Ok(vec![activated(x.conv_transpose(&weight, bias.as_ref(), &conv_options(call))?)?])
        })()),
        "GlobalMaxPool1D" | "GlobalMaxPool2D" | "GlobalMaxPool3D" => one(x.global_max_pool()),
        "GlobalAvgPool1D" | "GlobalAvgPool2D" | "GlobalAvgPool3D" => one(x.global_avg_pool()),
        "AdaptiveAvgPooling2D" | "contrib.AdaptiveAvgPooling2D" => {
            one(x.adaptive_avg_pool(&call.sizes(&["output_size"], 1)))
        }
        "MaxPool1D" | "MaxPool2D" | "MaxPool3D" => Some(pooled(call, &x, false)),
        "AvgPool1D" | "AvgPool2D" | "AvgPool3D" => Some(pooled(call, &x, true)),
        "Pooling" => Some((|| {
            let average = call.text("pool_type", "max") == "avg";
            if call.flag("global_pool", false) {
                return Ok(vec![if average { x.global_avg_pool()? } else { x.global_max_pool()? }]);
            }
            pooled(call, &x, average)
        })()),
        "im2col" => one(x.unfold(&call.sizes(&["kernel"], 1), &conv_options(call))),
        "col2im" => {
            one(x.fold_windows(&call.sizes(&["output_size"], 1), &call.sizes(&["kernel"], 1), &conv_options(call)))
        }
        _ => None,
    }
}

fn conv_options<B: Backend>(call: &Call<'_, B>) -> ConvOptions {
    ConvOptions {
        stride: call.sizes(&["strides", "stride"], 1),
        padding: call.sizes(&["padding", "pad"], 0),
        dilation: call.sizes(&["dilation", "dilate"], 1),
        groups: call.sizes(&["groups", "num_group"], 1)[0],
        output_padding: call.sizes(&["output_padding", "adj"], 0),
    }
}

fn pool_options<B: Backend>(call: &Call<'_, B>) -> PoolOptions {
    // Gluon's layers stride by the window where nothing is said.
    let stride = ["strides", "stride"].iter().find_map(|n| as_isizes(call.attribute(n)));
    PoolOptions {
        kernel: call.sizes(&["pool_size", "kernel"], 2),
        stride: stride.unwrap_or_default().iter().map(|&n| n as usize).collect(),
        padding: call.sizes(&["padding", "pad"], 0),
        ceil_mode: call.flag("ceil_mode", false) || call.text("pooling_convention", "valid") == "full",
        count_include_pad: call.flag("count_include_pad", true),
    }
}

/// Pooling, with the windows of ceil mode that MXNet keeps though they begin behind the input: a mean of padding is 0, and the largest
/// of none is -infinity.
fn pooled<B: Backend>(call: &Call<'_, B>, x: &Tensor<B>, average: bool) -> Many<B> {
    let o = pool_options(call);
    let y = if average { x.avg_pool(&o)? } else { x.max_pool(&o)? };
    if !o.ceil_mode {
        return Ok(vec![y]);
    }
    let of = |list: &[usize], a: usize| if list.len() == 1 { list[0] } else { list[a] };
    let mut widths = vec![(0, 0); 2];
    for a in 0..x.rank() - 2 {
        let (size, kernel, padding) = (x.shape()[2 + a], of(&o.kernel, a), of(&o.padding, a));
        let stride = if o.stride.is_empty() { kernel } else { of(&o.stride, a) };
        let kept = (size + 2 * padding - kernel).div_ceil(stride) + 1;
        widths.push((0, kept - y.shape()[2 + a]));
    }
    Ok(vec![y.pad(&widths, PadMode::Constant(if average { 0.0 } else { f64::NEG_INFINITY }))?])
}
