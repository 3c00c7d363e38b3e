//! What operators, in-place writes, autograd, random numbers and printing mean, on known values. The bodies are in
//! `common/semantics.rs` (operators) and `common/graphs.rs` (autograd); each runs on the reference backend directly, and
//! on several devices through `Dyn`.

use super::common::device::Numbered;
use isograd_core::{Dyn, Tensor};
use isograd_cpu::Cpu;
use isograd_reference::Reference;

/// Makes a test of each body on `devices`.
macro_rules! on_each {
    ($devices:ident, $($module:ident: $($name:ident)*;)*) => { $( mod $module { $(
        #[test]
        fn $name() {
            use crate::common::$module::$name as body;
            body(&isograd_reference::Reference);
            crate::semantics::$devices().iter().for_each(body);
        }
    )* } )* };
}

fn devices() -> [Dyn; 3] {
    [Dyn::new(Reference), Dyn::new(Numbered::new(0)), Dyn::new(Cpu::default())]
}

on_each! { devices,
    semantics: empty_and_rank_0 nan_goes_through rounding integers positions_of_extremes broadcasting slices reshapes
        in_place windows_and_pooling sorting norms_of_nothing creation casts matrices
        random_moments uniform_stays_below_its_bound randint_reaches_all_of_its_range sizes_beyond_all_memory ceil_pooling random_is_repeatable random_bits_are_pinned permutations dropping;
    graphs: leaves requests heads kept_and_consumed higher_orders without_touching_grad modes versions in_place_on_recorded
        leaves_share_no_memory threads deep_chains views_of_variables;
}

/// Without the CPU backend, whose name and pool would show.
mod named {
    use crate::common;
    use isograd_core::Dyn;
    use isograd_reference::Reference;

    #[test]
    fn printing() {
        common::semantics::printing(&Reference);
        common::semantics::printing(&Dyn::new(Reference));
    }

    #[test]
    fn drawing() {
        common::graphs::drawing(&Reference);
        common::graphs::drawing(&Dyn::new(Reference));
    }
}

/// On the device that counts its memory.
mod counted {
    use crate::common::{device::Numbered, graphs};

    #[test]
    fn memory_is_freed_during_backward() {
        graphs::memory_is_freed_during_backward(&Numbered::new(11));
    }

    #[test]
    fn what_is_saved() {
        graphs::what_is_saved(&Numbered::new(12));
    }

    #[test]
    fn recorded_gradients_are_freed() {
        graphs::recorded_gradients_are_freed(&Numbered::new(13));
    }
}

mod devices {
    use crate::common::device::Numbered;
    use isograd_core::{DType, Dyn, Tensor, autograd};
    use isograd_reference::Reference;

    #[test]
    fn a_device_chosen_at_run_time_is_the_device_inside() {
        let (a, b) = (Dyn::new(Reference), Dyn::new(Reference));
        assert_eq!(a, b);
        assert_eq!(a, Dyn::new(a.clone()));
        assert!(Dyn::new(a.clone()).downcast_ref::<Reference>().is_some());
        assert!(a.downcast_ref::<Numbered>().is_none() && a.downcast_ref::<Dyn>().is_none());
        assert_ne!(Dyn::new(Numbered::new(1)), Dyn::new(Numbered::new(2)));
        assert_eq!(Dyn::new(Numbered::new(1)), Dyn::new(Numbered::new(1)));
        assert_ne!(Dyn::new(Numbered::new(1)), a);
        assert_eq!(Dyn::new(Numbered::new(7)).downcast_ref::<Numbered>(), Some(&Numbered::new(7)));
    }

    #[test]
    fn copies_and_shares() {
        let x = Tensor::from_slice(&Reference, &[1.0f32, 2.0], [2]).unwrap();
        assert!(x.as_in_context(&Reference).unwrap().shares_memory_with(&x));
        assert!(!x.copyto(&Reference).unwrap().shares_memory_with(&x));
        let there = x.copyto(&Dyn::new(Reference)).unwrap();
        assert!(there.as_in_context(&Dyn::new(Reference)).unwrap().shares_memory_with(&there));
        let further = there.copyto(&Numbered::new(1)).unwrap().copyto(&Numbered::new(2)).unwrap();
        assert_eq!(further.ctx(), &Numbered::new(2));
        assert_eq!(further.to_vec::<f32>().unwrap(), [1.0, 2.0]);
        // A view that does not start at its buffer's beginning, between two contexts of one type.
        let view = there.copyto(&Numbered::new(1)).unwrap().slice(0, Some(1), None, 1).unwrap();
        assert_eq!(view.copyto(&Numbered::new(2)).unwrap().to_vec::<f32>().unwrap(), [2.0]);
        let empty = Tensor::zeros(&Reference, [0, 3], DType::F32).unwrap();
        assert_eq!(empty.copyto(&Numbered::new(1)).unwrap().shape()[..], [0, 3]);
    }

    #[test]
    fn gradients_flow_through_devices() {
        let x = Tensor::from_slice(&Reference, &[1.0f64, 2.0, 3.0], [3]).unwrap();
        x.attach_grad().unwrap();
        let y = autograd::record(|| {
            let far = x.square().unwrap().copyto(&Dyn::new(Reference)).unwrap().exp().unwrap();
            let further = far.as_in_context(&Numbered::new(1)).unwrap().slice(0, None, None, -1).unwrap();
            further.copyto(&Numbered::new(2)).unwrap().copyto(&Reference).unwrap().mul(&x).unwrap()
        });
        y.backward().unwrap();
        // y[i] = exp(x[2 - i]^2) x[i]
        let v = [1.0f64, 2.0, 3.0];
        let expected = |i: usize| (v[2 - i] * v[2 - i]).exp() + 2.0 * v[i] * (v[i] * v[i]).exp() * v[2 - i];
        for (i, g) in x.grad().unwrap().to_vec::<f64>().unwrap().into_iter().enumerate() {
            assert!((g / expected(i) - 1.0).abs() < 1e-12);
        }
    }

    #[test]
    fn gradients_of_gradients_flow_through_devices() {
        let x = Tensor::from_slice(&Reference, &[1.5f64], [1]).unwrap();
        x.attach_grad().unwrap();
        let first = autograd::record(|| {
            let y = x.copyto(&Numbered::new(1)).unwrap().pow_scalar(4).unwrap().copyto(&Reference).unwrap();
            autograd::grad(&[&y], &[&x], &[], true, true).unwrap().remove(0)
        });
        assert_eq!(first.to_vec::<f64>().unwrap(), [4.0 * 1.5f64.powi(3)]);
        let second = autograd::grad(&[&first], &[&x], &[], false, false).unwrap().remove(0);
        assert_eq!(second.to_vec::<f64>().unwrap(), [12.0 * 1.5f64.powi(2)]);
    }
}

#[test]
#[allow(clippy::op_ref, reason = "it is what is tested")]
fn numbers_are_taken_by_value_and_by_reference() {
    let x = Tensor::from_slice(&Reference, &[1.0f32, -2.0], [2]).unwrap();
    let (number, whole) = (2.0, 3i64);
    let by_reference = [&x * &number, x.clone() * &number, &number * &x, &number * x.clone(), &x - &whole, &whole - &x];
    let by_value = [&x * 2.0, &x * 2.0, 2.0 * &x, 2.0 * &x, &x - 3, 3 - &x];
    for (a, b) in by_reference.iter().zip(&by_value) {
        assert_eq!(a.to_vec::<f32>().unwrap(), b.to_vec::<f32>().unwrap());
    }
    // What a literal is stays known where a method follows.
    assert_eq!((&x * 2.0).exp().unwrap().shape(), &[2]);
    let scaled: Vec<Tensor<_>> = [0.5, 2.0].iter().map(|rate| &x * rate).collect();
    assert_eq!(scaled[1].to_vec::<f32>().unwrap(), [2.0, -4.0]);
}
