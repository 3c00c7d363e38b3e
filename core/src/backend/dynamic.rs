//! [`Dyn`]: the backend that holds any other, chosen at run time.

use super::{Backend, Capabilities, Operand, OperandMut, Pool, ReduceOp, Window};
use crate::{Result, expr::Kernel};
use smallvec::SmallVec;
use std::{any::Any, fmt, sync::Arc};

/// Memory of whatever device a [`Dyn`] holds.
pub struct DynBuffer(Box<dyn Any + Send + Sync>);

impl fmt::Debug for DynBuffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DynBuffer")
    }
}

/// A device chosen at run time. `Tensor` without a type argument is `Tensor<Dyn>`.
///
/// Each call finds the device behind one virtual call and re-borrows the operands: at most 50 ns per operator.
#[derive(Clone)]
pub struct Dyn {
    device: Arc<dyn Device>,
    capabilities: Capabilities,
}

impl Dyn {
    /// Holds `backend`. Holding a `Dyn` gives that `Dyn`.
    pub fn new<B: Backend>(backend: B) -> Dyn {
        let mut backend = Some(backend);
        if let Some(already) = (&mut backend as &mut dyn Any).downcast_mut::<Option<Dyn>>() {
            return already.take().expect("the backend was just put there");
        }
        let backend = backend.expect("only a Dyn is taken out");
        let capabilities = backend.capabilities();
        Dyn { device: Arc::new(Holder(backend)), capabilities }
    }

    /// The device inside, if it is a `B`.
    pub fn downcast_ref<B: Backend>(&self) -> Option<&B> {
        self.device.as_any().downcast_ref::<Holder<B>>().map(|h| &h.0)
    }
}

impl fmt::Debug for Dyn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Dyn({})", self.device.name())
    }
}

impl PartialEq for Dyn {
    fn eq(&self, other: &Dyn) -> bool {
        self.device.same(other.device.as_any())
    }
}

type In<'a, 'b> = &'a [Operand<'b, Dyn>];
type One<'a, 'b> = &'a Operand<'b, Dyn>;
type Out<'a, 'b> = &'a mut OperandMut<'b, Dyn>;

struct Holder<B>(B);

fn lower<'a, B: Backend>(o: &Operand<'a, Dyn>) -> Operand<'a, B> {
    Operand::new(buffer::<B>(o.buffer), o.dtype, o.layout)
}

fn lower_mut<'a, B: Backend>(o: &'a mut OperandMut<'_, Dyn>) -> OperandMut<'a, B> {
    OperandMut::new(buffer_mut::<B>(o.buffer), o.dtype, o.layout)
}

/// Core checks that operands are of the context that runs the kernel, so the buffers are of its type.
fn buffer<B: Backend>(b: &DynBuffer) -> &B::Buffer {
    b.0.downcast_ref().expect("core gives a context only its own buffers")
}

fn buffer_mut<B: Backend>(b: &mut DynBuffer) -> &mut B::Buffer {
    b.0.downcast_mut().expect("core gives a context only its own buffers")
}

/// Declares the object-safe mirror of [`Backend`], forwards it to the device held, and forwards [`Dyn`] to it. The methods
/// that only take operands are rows; those with buffers or slices of operands are written out.
macro_rules! mirror {
    ($($method:ident($($arg:ident: $type:ty),*; $($input:ident),*; $($output:ident),*);)*) => {
        trait Device: Send + Sync {
            fn as_any(&self) -> &dyn Any;
            fn same(&self, other: &dyn Any) -> bool;
            fn name(&self) -> String;
            fn alloc(&self, bytes: usize) -> Result<DynBuffer>;
            fn upload(&self, bytes: &[u8], to: &mut DynBuffer, offset: usize) -> Result<()>;
            fn download(&self, from: &DynBuffer, offset: usize, bytes: &mut [u8]) -> Result<()>;
            fn map(&self, kernel: &Kernel<'_>, inputs: In<'_, '_>, outputs: &mut [OperandMut<'_, Dyn>]) -> Result<()>;
            fn reduce(&self, op: ReduceOp, kernel: &Kernel<'_>, inputs: In<'_, '_>, output: Out<'_, '_>) -> Result<()>;
            fn matmul_fused(
                &self, kernel: &Kernel<'_>, a: One<'_, '_>, b: One<'_, '_>, inputs: In<'_, '_>, output: Out<'_, '_>,
            ) -> Result<()>;
            fn synchronize(&self) -> Result<()>;
            fn copy_from(&self, source: &dyn Any, from: &DynBuffer, to: &mut DynBuffer, bytes: usize) -> Option<Result<()>>;
            fn all_reduce(&self, others: &[&dyn Any], parts: &mut [OperandMut<'_, Dyn>]) -> Result<bool>;
            $(fn $method(&self, $($arg: $type,)* $($input: One<'_, '_>,)* $($output: Out<'_, '_>),*) -> Result<()>;)*
        }

        impl<B: Backend> Device for Holder<B> {
            fn as_any(&self) -> &dyn Any { self }
            fn same(&self, other: &dyn Any) -> bool {
                other.downcast_ref::<Holder<B>>().is_some_and(|o| o.0 == self.0)
            }
            fn name(&self) -> String { self.0.name() }
            fn alloc(&self, bytes: usize) -> Result<DynBuffer> { Ok(DynBuffer(Box::new(self.0.alloc(bytes)?))) }
            fn upload(&self, bytes: &[u8], to: &mut DynBuffer, offset: usize) -> Result<()> {
                self.0.upload(bytes, buffer_mut::<B>(to), offset)
            }
            fn download(&self, from: &DynBuffer, offset: usize, bytes: &mut [u8]) -> Result<()> {
                self.0.download(buffer::<B>(from), offset, bytes)
            }
            fn map(&self, kernel: &Kernel<'_>, inputs: In<'_, '_>, outputs: &mut [OperandMut<'_, Dyn>]) -> Result<()> {
                let mut lowered: SmallVec<[Operand<'_, B>; 4]> = SmallVec::new();
                inputs.iter().for_each(|o| lowered.push(lower(o)));
                let mut targets: SmallVec<[OperandMut<'_, B>; 2]> = SmallVec::new();
                outputs.iter_mut().for_each(|o| targets.push(lower_mut(o)));
                self.0.map(kernel, &lowered, &mut targets)
            }
            fn reduce(&self, op: ReduceOp, kernel: &Kernel<'_>, inputs: In<'_, '_>, output: Out<'_, '_>) -> Result<()> {
                let inputs: SmallVec<[Operand<'_, B>; 4]> = inputs.iter().map(lower).collect();
                self.0.reduce(op, kernel, &inputs, &mut lower_mut(output))
            }
            fn matmul_fused(
                &self, kernel: &Kernel<'_>, a: One<'_, '_>, b: One<'_, '_>, inputs: In<'_, '_>, output: Out<'_, '_>,
            ) -> Result<()> {
                let inputs: SmallVec<[Operand<'_, B>; 4]> = inputs.iter().map(lower).collect();
                self.0.matmul_fused(kernel, &lower(a), &lower(b), &inputs, &mut lower_mut(output))
            }
            fn synchronize(&self) -> Result<()> { self.0.synchronize() }
            fn copy_from(&self, source: &dyn Any, from: &DynBuffer, to: &mut DynBuffer, bytes: usize) -> Option<Result<()>> {
                let source = source.downcast_ref::<Holder<B>>()?;
                Some(self.0.copy_from(&source.0, buffer::<B>(from), buffer_mut::<B>(to), bytes))
            }
            fn all_reduce(&self, others: &[&dyn Any], parts: &mut [OperandMut<'_, Dyn>]) -> Result<bool> {
                let same = others.iter().map(|o| o.downcast_ref::<Holder<B>>().map(|h| &h.0));
                let Some(others) = same.collect::<Option<SmallVec<[&B; 4]>>>() else { return Ok(false) };
                let mut lowered: SmallVec<[OperandMut<'_, B>; 4]> = SmallVec::new();
                parts.iter_mut().for_each(|o| lowered.push(lower_mut(o)));
                self.0.all_reduce(&others, &mut lowered)
            }
            $(fn $method(&self, $($arg: $type,)* $($input: One<'_, '_>,)* $($output: Out<'_, '_>),*) -> Result<()> {
                self.0.$method($($arg,)* $(&lower($input),)* $(&mut lower_mut($output)),*)
            })*
        }

        impl Backend for Dyn {
            type Buffer = DynBuffer;
            fn name(&self) -> String { self.device.name() }
            fn capabilities(&self) -> Capabilities { self.capabilities }
            fn alloc(&self, bytes: usize) -> Result<DynBuffer> { self.device.alloc(bytes) }
            fn upload(&self, bytes: &[u8], to: &mut DynBuffer, offset: usize) -> Result<()> {
                self.device.upload(bytes, to, offset)
            }
            fn download(&self, from: &DynBuffer, offset: usize, bytes: &mut [u8]) -> Result<()> {
                self.device.download(from, offset, bytes)
            }
            fn map(&self, kernel: &Kernel<'_>, inputs: In<'_, '_>, outputs: &mut [OperandMut<'_, Dyn>]) -> Result<()> {
                self.device.map(kernel, inputs, outputs)
            }
            fn reduce(&self, op: ReduceOp, kernel: &Kernel<'_>, inputs: In<'_, '_>, output: Out<'_, '_>) -> Result<()> {
                self.device.reduce(op, kernel, inputs, output)
            }
            fn matmul_fused(
                &self, kernel: &Kernel<'_>, a: One<'_, '_>, b: One<'_, '_>, inputs: In<'_, '_>, output: Out<'_, '_>,
            ) -> Result<()> {
                self.device.matmul_fused(kernel, a, b, inputs, output)
            }
            fn synchronize(&self) -> Result<()> { self.device.synchronize() }
            fn copy_from(&self, source: &Dyn, from: &DynBuffer, to: &mut DynBuffer, bytes: usize) -> Result<()> {
                self.device.copy_from(source.device.as_any(), from, to, bytes).unwrap_or_else(|| {
                    let mut host = vec![0; bytes];
                    source.download(from, 0, &mut host)?;
                    self.upload(&host, to, 0)
                })
            }
            fn all_reduce(&self, others: &[&Dyn], parts: &mut [OperandMut<'_, Dyn>]) -> Result<bool> {
                let others: SmallVec<[&dyn Any; 4]> = others.iter().map(|o| o.device.as_any()).collect();
                self.device.all_reduce(&others, parts)
            }
            $(fn $method(&self, $($arg: $type,)* $($input: One<'_, '_>,)* $($output: Out<'_, '_>),*) -> Result<()> {
                self.device.$method($($arg,)* $($input,)* $($output),*)
            })*
        }
    };
}

mirror! {
    gather(axis: usize; source, index; output);
    scatter_add(axis: usize; source, index; output);
    matmul(; a, b; output);
    conv(window: &Window; input, weight; output);
    conv_input_gradient(window: &Window; head, weight; output);
    conv_weight_gradient(window: &Window; input, head; output);
    pool(kind: Pool, window: &Window; input; output);
    pool_gradient(kind: Pool, window: &Window; input, head; output);
    softmax(logarithm: bool; input; output);
    normalize(epsilon: f64; input; output, mean, rstd);
    scan(op: ReduceOp; input; output);
    argsort(descending: bool; input; output);
}
