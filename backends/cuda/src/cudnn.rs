//! cuDNN, where it is present: a convolution and its two gradients, by the functions that versions 8 and 9 share.
//!
//! Descriptors and the choice of an algorithm are made once for each kind of convolution. An algorithm must repeat its
//! results unless [`Cuda::set_deterministic`] says otherwise, and f32 is not rounded to TF32 unless that is allowed.

use crate::{
    Cuda,
    driver::Driver,
    library::{self, Library, table},
    operand::address,
    window::Which,
};
use isograd_core::{DType, Error, Operand, OperandMut, Result, Window, backend::launch::Temporary};
use std::{
    collections::HashMap,
    ffi::{c_int, c_void},
    ptr,
    sync::{Mutex, OnceLock, PoisonError},
};

type Handle = *mut c_void;
type Descriptor = *mut c_void;
type Code = c_int;

/// `cudnnConvolutionFwdAlgoPerf_t`, and those of the gradients, which are the same.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
struct Performance {
    algorithm: c_int,
    status: Code,
    time: f32,
    memory: usize,
    /// 1: results repeat.
    determinism: c_int,
    math: c_int,
    reserved: [c_int; 3],
}

table! {
    "cuDNN 8 or 9":
    create = "cudnnCreate"(*mut Handle);
    destroy = "cudnnDestroy"(Handle);
    set_stream = "cudnnSetStream"(Handle, *mut c_void);
    create_tensor = "cudnnCreateTensorDescriptor"(*mut Descriptor);
    set_tensor = "cudnnSetTensorNdDescriptor"(Descriptor, c_int, c_int, *const c_int, *const c_int);
    destroy_tensor = "cudnnDestroyTensorDescriptor"(Descriptor);
    create_filter = "cudnnCreateFilterDescriptor"(*mut Descriptor);
    set_filter = "cudnnSetFilterNdDescriptor"(Descriptor, c_int, c_int, c_int, *const c_int);
    destroy_filter = "cudnnDestroyFilterDescriptor"(Descriptor);
    create_convolution = "cudnnCreateConvolutionDescriptor"(*mut Descriptor);
    set_convolution = "cudnnSetConvolutionNdDescriptor"(
        Descriptor, c_int, *const c_int, *const c_int, *const c_int, c_int, c_int);
    set_groups = "cudnnSetConvolutionGroupCount"(Descriptor, c_int);
    set_math = "cudnnSetConvolutionMathType"(Descriptor, c_int);
    destroy_convolution = "cudnnDestroyConvolutionDescriptor"(Descriptor);
    choose = ["cudnnGetConvolutionForwardAlgorithm_v7", "cudnnGetConvolutionBackwardDataAlgorithm_v7",
        "cudnnGetConvolutionBackwardFilterAlgorithm_v7"](
        Handle, Descriptor, Descriptor, Descriptor, Descriptor, c_int, *mut c_int, *mut Performance);
    workspace = ["cudnnGetConvolutionForwardWorkspaceSize", "cudnnGetConvolutionBackwardDataWorkspaceSize",
        "cudnnGetConvolutionBackwardFilterWorkspaceSize"](
        Handle, Descriptor, Descriptor, Descriptor, Descriptor, c_int, *mut usize);
    run = ["cudnnConvolutionForward", "cudnnConvolutionBackwardData", "cudnnConvolutionBackwardFilter"](
        Handle, *const c_void, Descriptor, *const c_void, Descriptor, *const c_void, Descriptor, c_int, *mut c_void,
        usize, *const c_void, Descriptor, *mut c_void);
}

/// The most memory that an algorithm may use besides its operands.
const MOST_WORKSPACE: usize = 1 << 29;

/// The algorithms of each kernel that add up products. The others transform their operands (Winograd, Fourier), and an
/// element's error is then not bounded by what it is the sum of.
const SUMS: [&[c_int]; 3] = [&[0, 1, 2, 3], &[0, 1], &[0, 1, 3]];

/// Algorithms that are asked for, by their speed.
const ALGORITHMS: usize = 8;

/// A device's handle. `None` inside where there is no library, or the device is none of CUDA's.
#[derive(Debug, Default)]
pub(crate) struct Cudnn(OnceLock<Option<Mutex<Open>>>);

#[derive(Debug)]
struct Open {
    functions: Functions,
    handle: Handle,
    /// `None` for what the library cannot do.
    plans: HashMap<Vec<usize>, Option<Plan>>,
}

// SAFETY: a handle and its descriptors may be used on any thread, by one at a time; they are behind a lock.
unsafe impl Send for Open {}

/// How a kind of convolution is computed.
#[derive(Clone, Copy, Debug)]
struct Plan {
    input: Descriptor,
    weight: Descriptor,
    output: Descriptor,
    convolution: Descriptor,
    algorithm: c_int,
    workspace: usize,
}

impl Open {
    fn new(driver: &dyn Driver) -> Option<Mutex<Open>> {
        driver.stream()?;
        let functions = Functions::found(library::CUDNN, driver)?;
        let mut handle = ptr::null_mut();
        // SAFETY: the pointer is valid for writing; the device's context is current, since its stream was asked for.
        let made = unsafe { (functions.create)(&mut handle) };
        (made == 0).then(|| Mutex::new(Open { functions, handle, plans: HashMap::new() }))
    }

    fn destroy(&self, plan: &Plan) {
        let f = &self.functions;
        // SAFETY: descriptors were made by these functions, or are null, which they refuse.
        unsafe {
            (f.destroy_tensor)(plan.input);
            (f.destroy_filter)(plan.weight);
            (f.destroy_tensor)(plan.output);
            (f.destroy_convolution)(plan.convolution);
        }
    }

    /// The plan of `problem`, or `None` where the library has none.
    fn plan(&self, problem: &Problem) -> Option<Plan> {
        let none = ptr::null_mut();
        let mut plan = Plan { input: none, weight: none, output: none, convolution: none, algorithm: 0, workspace: 0 };
        let made = self.describe(problem, &mut plan).and_then(|()| self.choose(problem, &mut plan));
        if made.is_none() {
            self.destroy(&plan);
        }
        made.map(|()| plan)
    }

    fn describe(&self, problem: &Problem, plan: &mut Plan) -> Option<()> {
        let f = &self.functions;
        let kind = problem.kind();
        let numbers = |values: &[usize]| values.iter().map(|n| c_int::try_from(*n).ok()).collect::<Option<Vec<_>>>();
        let ok = |code: Code| (code == 0).then_some(());
        for (descriptor, shape) in [(&mut plan.input, &problem.input), (&mut plan.output, &problem.output)] {
            let sizes = numbers(shape)?;
            let mut strides = vec![1usize; shape.len()];
            (1..shape.len()).rev().for_each(|i| strides[i - 1] = strides[i] * shape[i]);
            let strides = numbers(&strides)?;
            // SAFETY: pointers are valid, and both lists have as many entries as is said.
            unsafe {
                ok((f.create_tensor)(descriptor))?;
                ok((f.set_tensor)(*descriptor, kind, sizes.len() as c_int, sizes.as_ptr(), strides.as_ptr()))?;
            }
        }
        let sizes = numbers(&problem.weight)?;
        let window = &problem.window;
        let [padding, stride, dilation] = [numbers(&window[0])?, numbers(&window[1])?, numbers(&window[2])?];
        let axes = padding.len() as c_int;
        let compute = if problem.dtype == DType::F64 { 1 } else { 0 };
        // SAFETY: as above. 0 is the layout [channels out, channels in, spatial..], 1 cross-correlation.
        unsafe {
            ok((f.create_filter)(&mut plan.weight))?;
            ok((f.set_filter)(plan.weight, kind, 0, sizes.len() as c_int, sizes.as_ptr()))?;
            ok((f.create_convolution)(&mut plan.convolution))?;
            let lists = [padding.as_ptr(), stride.as_ptr(), dilation.as_ptr()];
            ok((f.set_convolution)(plan.convolution, axes, lists[0], lists[1], lists[2], 1, compute))?;
            ok((f.set_groups)(plan.convolution, c_int::try_from(problem.groups).ok()?))?;
            ok((f.set_math)(plan.convolution, problem.math()))
        }
    }

    fn choose(&self, problem: &Problem, plan: &mut Plan) -> Option<()> {
        let f = &self.functions;
        let which = problem.which as usize;
        let [a, b, out] = plan.order(problem.which);
        let (mut found, mut count) = ([Performance::default(); ALGORITHMS], 0);
        // SAFETY: descriptors are set, and there is room for as many results as are asked for.
        let code = unsafe {
            let most = ALGORITHMS as c_int;
            (f.choose[which])(self.handle, a, b, plan.convolution, out, most, &mut count, found.as_mut_ptr())
        };
        let found = &found[..if code == 0 { count.clamp(0, ALGORITHMS as c_int) as usize } else { 0 }];
        let fits = |p: &&Performance| {
            p.status == 0
                && p.memory <= MOST_WORKSPACE
                && (p.determinism == 1 || !problem.deterministic)
                && SUMS[which].contains(&p.algorithm)
        };
        plan.algorithm = found.iter().find(fits)?.algorithm;
        // SAFETY: as above.
        let code = unsafe {
            let workspace = &mut plan.workspace;
            (f.workspace[which])(self.handle, a, b, plan.convolution, out, plan.algorithm, workspace)
        };
        (code == 0 && plan.workspace <= MOST_WORKSPACE).then_some(())
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.plans.values().flatten().for_each(|plan| self.destroy(plan));
        // SAFETY: the handle is this value's.
        unsafe { (self.functions.destroy)(self.handle) };
    }
}

impl Plan {
    /// The descriptors of the two operands and of the result, in the library's order.
    fn order(&self, which: Which) -> [Descriptor; 3] {
        match which {
            Which::Forward => [self.input, self.weight, self.output],
            Which::InputGradient => [self.weight, self.output, self.input],
            Which::WeightGradient => [self.input, self.output, self.weight],
        }
    }
}

/// What tells convolutions apart. Shapes have at least two spatial axes.
#[derive(Debug)]
struct Problem {
    which: Which,
    dtype: DType,
    input: Vec<usize>,
    weight: Vec<usize>,
    output: Vec<usize>,
    /// Padding, stride and dilation.
    window: [Vec<usize>; 3],
    groups: usize,
    tf32: bool,
    deterministic: bool,
}

impl Problem {
    /// `cudnnDataType_t`.
    fn kind(&self) -> c_int {
        match self.dtype {
            DType::F64 => 1,
            DType::F16 => 2,
            DType::BF16 => 9,
            _ => 0,
        }
    }

    /// `cudnnMathType_t`: of f32, the default rounds to TF32, and FMA does not.
    fn math(&self) -> c_int {
        const DEFAULT: c_int = 0;
        const TENSOR_CORES: c_int = 1;
        const FMA: c_int = 3;
        match self.dtype {
            DType::F16 | DType::BF16 => TENSOR_CORES,
            DType::F32 if self.tf32 => DEFAULT,
            _ => FMA,
        }
    }

    fn key(&self) -> Vec<usize> {
        let flags = self.tf32 as usize * 2 + self.deterministic as usize;
        let mut key = vec![self.which as usize, self.dtype as usize, self.groups, flags];
        let lists = [&self.input, &self.weight, &self.output].into_iter().chain(&self.window);
        lists.for_each(|list| {
            key.push(list.len());
            key.extend(list);
        });
        key
    }
}

/// The kernel `which` of a convolution between contiguous arrays, by cuDNN; false where it is not there or cannot do it.
/// `left` and `right` are weight and input, weight and head, or head and input.
pub(crate) fn conv(
    cuda: &Cuda,
    which: Which,
    window: &Window,
    left: &Operand<'_, Cuda>,
    right: &Operand<'_, Cuda>,
    out: &mut OperandMut<'_, Cuda>,
) -> Result<bool> {
    if !out.dtype.is_float() {
        return Ok(false);
    }
    let Some(open) = cuda.context.cudnn.0.get_or_init(|| Open::new(&*cuda.context.driver)) else { return Ok(false) };
    let Some(stream) = cuda.context.driver.stream() else { return Ok(false) };
    // The library wants two spatial axes or more.
    let lead = 2usize.saturating_sub(window.axes());
    let spatial = |values: &[usize], missing: usize| [&vec![missing; lead][..], values].concat();
    let shape = |o: &[usize]| [&o[..2], &spatial(&o[2..], 1)].concat();
    let (input, weight, output) = match which {
        Which::Forward => (right.shape(), left.shape(), out.shape()),
        Which::InputGradient => (out.shape(), left.shape(), right.shape()),
        Which::WeightGradient => (right.shape(), out.shape(), left.shape()),
    };
    if (0..window.axes()).any(|axis| window.count(axis, input[2 + axis], false) != Some(output[2 + axis])) {
        return Ok(false);
    }
    let problem = Problem {
        which,
        dtype: out.dtype,
        input: shape(input),
        weight: shape(weight),
        output: shape(output),
        window: [spatial(&window.padding, 0), spatial(&window.stride, 1), spatial(&window.dilation, 1)],
        groups: window.groups,
        tf32: cuda.tf32(),
        deterministic: cuda.deterministic(),
    };
    let mut open = open.lock().unwrap_or_else(PoisonError::into_inner);
    let key = problem.key();
    let plan = match open.plans.get(&key) {
        Some(plan) => *plan,
        None => {
            let plan = open.plan(&problem);
            open.plans.insert(key, plan);
            plan
        }
    };
    let Some(plan) = plan else { return Ok(false) };
    let fail = |code: Code| Error::backend(cuda.context.driver.name(), "convolution", format!("cuDNN status {code}"));
    let workspace = match plan.workspace {
        0 => None,
        bytes => Some(Temporary::<Cuda>::new(cuda, DType::U8, [bytes])?),
    };
    let memory = workspace.as_ref().map_or(0, |w| address(&w.operand()));
    let [a, b, result] = plan.order(which);
    let [first, second] = match which {
        Which::Forward | Which::WeightGradient => [right, left],
        Which::InputGradient => [left, right],
    };
    let (single, double) = ([1.0f32, 0.0], [1.0f64, 0.0]);
    let scalar = |i: usize| match out.dtype {
        DType::F64 => (&raw const double[i]).cast::<c_void>(),
        _ => (&raw const single[i]).cast::<c_void>(),
    };
    let target = address(&out.as_operand()) as *mut c_void;
    // SAFETY: handle, stream and descriptors are this device's; core has checked that the arrays have the shapes that
    // the descriptors say.
    let code = unsafe {
        match (open.functions.set_stream)(open.handle, stream) {
            0 => (open.functions.run[which as usize])(
                open.handle,
                scalar(0),
                a,
                address(first) as *const c_void,
                b,
                address(second) as *const c_void,
                plan.convolution,
                plan.algorithm,
                memory as *mut c_void,
                plan.workspace,
                scalar(1),
                result,
                target,
            ),
            code => code,
        }
    };
    match code {
        0 => Ok(true),
        // "Not supported", of version 8 and of version 9.
        9 | 3000..4000 => {
            if let Some(Some(plan)) = open.plans.insert(problem.key(), None) {
                open.destroy(&plan);
            }
            Ok(false)
        }
        code => Err(fail(code)),
    }
}
