//! isograd: the same gradients on every backend.
//!
//! One neural-network library, written once against a [`Backend`] trait. Backends are separate crates, anyone can write
//! another, and a conformance suite proves that all compute the same. On top stands Gluon's model of deep learning.
//!
//! ```
//! use isograd::prelude::*;
//!
//! let ctx = isograd::device("cpu")?;
//! let x = Tensor::from_slice(&ctx, &[1.0f32, 2.0, 3.0], [3])?;
//! x.attach_grad()?;
//! let z = autograd::record(|| { let y = &x * 2.0; &y * &x });
//! z.backward()?;
//! assert_eq!(x.grad()?.to_vec::<f32>()?, [4.0, 8.0, 12.0]);
//! # Ok::<(), isograd::Error>(())
//! ```
//!
//! # Devices
//! [`device`] gives a device by name, [`default_device`] the one named by the environment variable `ISOGRAD_DEVICE`
//! (`cpu` without it), [`devices`] all that this build has. Cargo features only ever add devices: `cpu` (default),
//! `opencl` (whatever OpenCL drivers are installed, found at run time) and `cuda` (NVIDIA's driver and libraries, likewise). The
//! features `openblas`, `blis`, `mkl`, `accelerate` and `netlib` put a BLAS library under the matrix product of `cpu`, `clblast`
//! one under that of `opencl`.
//!
//! `Tensor` and `Dense` without a type argument run on whatever device was chosen at run time ([`Dyn`]). Code that names a
//! backend (`Tensor<Cpu>`), or is generic over one, saves a virtual call per operator.
//!
//! [`Backend`]: isograd_core::Backend
//! [`Dyn`]: isograd_core::Dyn
#![forbid(unsafe_code)]

pub use isograd_core::*;
#[cfg(feature = "cpu")]
pub use isograd_cpu::Cpu;
#[cfg(feature = "cuda")]
pub use isograd_cuda::Cuda;
#[cfg(feature = "opencl")]
pub use isograd_opencl::OpenCl;

/// The CUDA backend.
#[cfg(feature = "cuda")]
pub mod cuda {
    pub use isograd_cuda::*;
}

/// Neural networks in Gluon's model: blocks, parameters, layers, initializers, losses, optimizers, data.
///
/// A module, not another name of the crate below, whose own name the compiler would put into its hints: `isograd::isograd_nn`.
pub mod nn {
    pub use isograd_nn::*;
}

/// What most programs use: tensors and gradients, blocks and all layers, losses, metrics, optimizers, and the initializers and
/// parts of data that are met first.
///
/// ```
/// use isograd::prelude::*;
///
/// # fn main() -> Result<()> {
/// seed(7);
/// let ctx = device("cpu")?;
/// let mut net = Sequential::new();
/// net.add(Conv2D::new(4, (3, 3)).activation("relu".parse()?)).add(MaxPool2D::new(2)).add(Dense::new(10));
/// net.initialize(Xavier::default(), &ctx)?;
/// let mut trainer = Trainer::new(net.collect_params(), SGD::new(0.1).momentum(0.9))?;
/// let (pictures, classes) = (Tensor::ones(&ctx, [2, 1, 8, 8], DType::F32)?, Tensor::from_slice(&ctx, &[3i64, 7], [2])?);
/// let (loss, scores) = autograd::try_record(|| {
///     let scores = net.forward(&pictures)?;
///     Ok((SoftmaxCrossEntropyLoss::default().loss(&scores, &classes)?, scores))
/// })?;
/// loss.backward()?;
/// trainer.step(2)?;
/// let mut accuracy = Accuracy::default();
/// accuracy.update(&classes, &scores)?;
/// println!("{net}\naccuracy {}", accuracy.value());
/// # Ok(())
/// # }
/// ```
pub mod prelude {
    pub use crate::nn::{
        AnyBlock, Block, Checkpoint, Concurrent, Identity, Lambda, LoadOptions, Parameter, ParameterDict, Parameters,
        Residual, SaveOptions, Sequential, Trainer,
        data::{ArrayDataset, DataLoader, Dataset},
        initializers::{Initializer, MSRAPrelu, Normal, One, Orthogonal, Uniform, Xavier, Zero},
        layers::*,
        loss::*,
        metric::{Accuracy, Metric},
        optimizer::{
            AdaDelta, AdaGrad, AdaMax, Adam, AdamW, Ftrl, LAMB, MultiPrecision, NAG, Nadam, Optimizer, RMSProp, SGD,
            Schedule, Scheduled, Signum, clip_global_norm,
        },
        summary,
    };
    pub use crate::operators::random::seed;
    pub use crate::{Backend, DType, Dyn, Error, GradReq, Result, Shape, Tensor, autograd, device};
}

/// What a build without optimization says where a device is first opened, unless the environment variable `ISOGRAD_QUIET` is
/// set.
const UNOPTIMIZED: &str = "\
isograd: built without optimization, so it computes 12 to 35 times slower than it could. Build with --release, or add to Cargo.toml

    [profile.dev.package.\"*\"]
    opt-level = 3

ISOGRAD_QUIET=1 silences this.";

/// Says [`UNOPTIMIZED`], once.
fn notice(optimized: bool, quiet: Option<std::ffi::OsString>, mut say: impl FnMut(&str)) {
    static SAID: std::sync::Once = std::sync::Once::new();
    if !optimized && quiet.is_none_or(|quiet| quiet.is_empty()) {
        SAID.call_once(|| say(UNOPTIMIZED));
    }
}

/// A kind of device: the name before the colon, how many there are, and how to make one by number or by a word that its
/// driver's description has.
struct Kind {
    name: &'static str,
    count: fn() -> Result<usize>,
    make: fn(usize) -> Result<Dyn>,
    find: Option<fn(&str) -> Result<Dyn>>,
}

const KINDS: &[Kind] = &[
    #[cfg(feature = "cpu")]
    Kind { name: "cpu", count: || Ok(1), make: |_| Ok(Dyn::new(Cpu::default())), find: None },
    #[cfg(feature = "opencl")]
    Kind {
        name: "opencl",
        count: OpenCl::count,
        make: |i| OpenCl::new(i).map(Dyn::new),
        find: Some(|word| OpenCl::find(word).map(Dyn::new)),
    },
    #[cfg(feature = "cuda")]
    Kind {
        name: "cuda",
        count: || Ok(Cuda::count()),
        make: |i| Cuda::new(i).map(Dyn::new),
        find: Some(|which| Cuda::find(which).map(Dyn::new)),
    },
];

/// Devices that a cargo feature of the same name would add.
const BY_FEATURE: &[&str] = &["cpu", "opencl", "cuda"];

/// The device called `name`: `cpu`, `opencl`. A number after a colon picks one of several, the first without it; of the
/// OpenCL devices also a word from the name of platform, vendor or device, as in `opencl:intel`. `fast` behind the name of a
/// CUDA device, as in `cuda:0:fast`, takes NVIDIA's libraries and tensor cores where they are faster, whose results are near
/// those of other devices but not equal to the last bit (`cuda::Mode`).
///
/// The first device that is opened in a build without optimization says so on standard error, with the lines for `Cargo.toml`
/// that help; the environment variable `ISOGRAD_QUIET` silences it.
///
/// ```
/// assert_eq!(isograd::device("cpu")?, isograd::device("cpu:0")?);
/// assert!(isograd::device("abacus").is_err());
/// # Ok::<(), isograd::Error>(())
/// ```
///
/// # Errors
/// [`Error::UnknownDevice`] for a name or number that this build or this machine does not have; what the device reports
/// when it is opened.
pub fn device(name: &str) -> Result<Dyn> {
    let device = open(name)?;
    notice(OPTIMIZED, std::env::var_os("ISOGRAD_QUIET"), |text| eprintln!("{text}"));
    Ok(device)
}

fn open(name: &str) -> Result<Dyn> {
    let unknown = |hint: String| Error::UnknownDevice { name: name.into(), available: devices().join(", "), hint };
    let (kind, which) = name.split_once(':').unwrap_or((name, "0"));
    let Some(k) = KINDS.iter().find(|k| k.name == kind) else {
        return Err(unknown(match BY_FEATURE.contains(&kind) {
            true => format!("; build with --features {kind}"),
            false => String::new(),
        }));
    };
    match (which.parse::<usize>(), k.find) {
        (Ok(number), _) => {
            let count = (k.count)()?;
            // Where there is none, the backend tells why.
            if number < count.max(1) {
                return (k.make)(number);
            }
            Err(unknown(format!("; there are {count} of this kind, counted from 0")))
        }
        (Err(_), Some(find)) if !which.is_empty() => find(which),
        (Err(_), _) => Err(unknown("; the part after the colon is a number".into())),
    }
}

/// The device named by the environment variable `ISOGRAD_DEVICE`; `cpu` when it is not set.
///
/// # Errors
/// As [`device`].
pub fn default_device() -> Result<Dyn> {
    device(std::env::var("ISOGRAD_DEVICE").as_deref().unwrap_or("cpu"))
}

/// The names of all devices of this build on this machine.
pub fn devices() -> Vec<String> {
    let name = |k: &Kind, i: usize, n: usize| if n == 1 { k.name.to_string() } else { format!("{}:{i}", k.name) };
    KINDS
        .iter()
        .flat_map(|k| {
            // A kind whose driver is missing has no devices here; opening one says what is missing.
            let n = (k.count)().unwrap_or(0);
            (0..n).map(move |i| name(k, i, n))
        })
        .collect()
}

/// The README and the pages of the book, whose programs run as tests. `tests/documents.rs` sees to it that none is missing.
#[cfg(all(doctest, feature = "cpu"))]
mod book {
    macro_rules! pages {
        ($($name:ident $path:literal;)*) => { $(#[doc = include_str!($path)] struct $name;)* };
    }
    pages! {
        Readme "../README.md";
        Arithmetic "../docs/book/arithmetic.md";
        Blocks "../docs/book/blocks.md";
        Data "../docs/book/data.md";
        Errors "../docs/book/errors.md";
        Files "../docs/book/files.md";
        FromGluon "../docs/book/from-gluon.md";
        FromPyTorch "../docs/book/from-pytorch.md";
        Fused "../docs/book/fused.md";
        GettingStarted "../docs/book/getting-started.md";
        Gradients "../docs/book/gradients.md";
        Layers "../docs/book/layers.md";
        Resuming "../docs/book/resuming.md";
        Tensors "../docs/book/tensors.md";
        Training "../docs/book/training.md";
        WritingABackend "../docs/book/writing-a-backend.md";
        Zoo "../docs/book/zoo.md";
    }
    mod zh {
        pages! {
            Autograd "../docs/book/zh/autograd.md";
            ConvolutionalNetworks "../docs/book/zh/convolutional-networks.md";
            CustomLayers "../docs/book/zh/custom-layers.md";
            DeferredInitialization "../docs/book/zh/deferred-initialization.md";
            Devices "../docs/book/zh/devices.md";
            Files "../docs/book/zh/files.md";
            Introduction "../docs/book/zh/introduction.md";
            ModelConstruction "../docs/book/zh/model-construction.md";
            Parameters "../docs/book/zh/parameters.md";
        }
    }
    #[cfg(feature = "opencl")]
    pages! { OpenClDevices "../docs/book/opencl.md"; }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_devices_are_named_with_what_there_is() {
        for (name, word) in [("abacus", "cpu"), ("cpu:7", "counted from 0"), ("cpu:one", "number")] {
            let error = device(name).unwrap_err();
            assert!(matches!(&error, Error::UnknownDevice { name: n, .. } if n == name));
            assert!(error.to_string().contains(word), "{error}");
        }
    }

    #[cfg(feature = "cuda")]
    #[test]
    fn cuda_devices_are_exact_or_fast_by_name() {
        for (name, result) in [("cuda:0", Cuda::new(0)), ("cuda:0:fast", Cuda::with_mode(0, cuda::Mode::Fast))] {
            match result {
                Ok(cuda) => assert_eq!(device(name).unwrap(), Dyn::new(cuda)),
                Err(e) => assert_eq!(device(name).unwrap_err().to_string(), e.to_string()),
            }
        }
        let error = device("cuda:0:quick").unwrap_err();
        assert!(matches!(&error, Error::UnknownDevice { name, .. } if name == "cuda:0:quick"), "{error}");
        assert!(error.to_string().contains("cuda:0:fast"), "{error}");
    }

    #[test]
    fn a_build_without_optimization_says_so_once() {
        let mut said = vec![];
        notice(true, None, |text| said.push(text.to_string()));
        notice(false, Some("1".into()), |text| said.push(text.to_string()));
        assert!(said.is_empty());
        for _ in 0..2 {
            notice(false, Some("".into()), |text| said.push(text.to_string()));
        }
        assert_eq!(said, [UNOPTIMIZED]);
        let template = include_str!("../examples/template/Cargo.toml");
        for line in ["[profile.dev.package.\"*\"]", "opt-level = 3"] {
            assert!(UNOPTIMIZED.contains(line) && template.contains(line));
        }
    }

    #[test]
    fn the_default_device_is_the_cpu() {
        assert_eq!(devices()[0], "cpu");
        assert_eq!(default_device().unwrap(), device("cpu").unwrap());
    }
}
