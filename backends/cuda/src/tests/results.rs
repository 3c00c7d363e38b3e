//! The kernels, run on the host, against the conformance suite and the reference backend.

use super::host::{self, Host};
use crate::{Cuda, driver::Architecture};
use isograd_conformance::{Level, Options, Suite};
use isograd_core::{DType, Result, Tensor, autograd};
use isograd_reference::Reference;
use std::sync::Arc;

/// A device of the host, of compute capability 9.0; kernels stay compiled from run to run.
fn device() -> Option<(Cuda, Arc<Host>)> {
    let host = Host::new(Architecture::new(9, 0))?;
    Some((Cuda::with_driver(host.clone(), host::directory().join("kernels")).unwrap(), host))
}

/// Runs the cases whose names contain one of `filters`, for the dtypes.
fn conforms(filters: &[&str], dtypes: &[DType]) {
    let Some((cuda, host)) = device() else { return };
    let suite = Suite::new(cuda);
    for filter in filters {
        for dtype in dtypes {
            let options = Options {
                filter: Some(filter.to_string()),
                dtype: Some(*dtype),
                level: Level::Quick,
                ..Options::default()
            };
            let report = suite.run(&options);
            assert_eq!(report.failed(), 0, "{report}");
        }
    }
    host.check_guards();
}

#[test]
#[ignore = "the whole suite compiles thousands of kernels: ISOGRAD_FILTER and ISOGRAD_DTYPE narrow it"]
fn the_whole_suite() {
    let filter = std::env::var("ISOGRAD_FILTER").unwrap_or_default();
    match std::env::var("ISOGRAD_DTYPE").ok() {
        Some(dtype) => conforms(&[&filter], &[dtype.parse().unwrap()]),
        None => conforms(&[&filter], &DType::ALL),
    }
}
