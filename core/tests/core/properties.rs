//! Random shapes, strides, axes and slices against models on plain vectors that index element by element.

use super::common::properties::{self, Model, SliceSpec};
use isograd_core::Dyn;
use isograd_reference::Reference;
use proptest::prelude::*;

fn shape() -> impl Strategy<Value = Vec<usize>> {
    prop::collection::vec(0usize..5, 0..5)
}

fn slices(rank: usize) -> impl Strategy<Value = Vec<SliceSpec>> {
    let bound = || prop::option::of(-6isize..7);
    let step = prop_oneof![-3isize..0, 1isize..4];
    prop::collection::vec((bound(), bound(), step), rank)
}

/// A view of a fresh tensor: sliced along every axis, then transposed.
fn view() -> impl Strategy<Value = (Vec<usize>, Vec<SliceSpec>, Vec<usize>)> {
    shape().prop_flat_map(|shape| {
        let rank = shape.len();
        (Just(shape), slices(rank), Just((0..rank).collect::<Vec<_>>()).prop_shuffle())
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn views_are_what_indexing_says((shape, slices, order) in view()) {
        let x = Model::counting(&shape);
        properties::views(&Reference, &x, &slices, &order)?;
        properties::views(&Dyn::new(Reference), &x, &slices, &order)?;
    }

    #[test]
    fn reductions_are_folds((shape, slices, order) in view(), chosen in any::<u8>(), keep in any::<bool>()) {
        let axes: Vec<usize> = (0..shape.len()).filter(|a| chosen >> a & 1 == 1).collect();
        properties::reductions(&Reference, &Model::counting(&shape), &slices, &order, &axes, keep)?;
    }

    #[test]
    fn broadcasts_repeat(
        (shape, slices, order) in view(),
        ones in any::<u8>(),
        front in prop::collection::vec(0usize..4, 0..3),
    ) {
        properties::broadcasts(&Reference, &Model::counting(&shape), &slices, &order, ones, &front)?;
    }

    #[test]
    fn writes_through_views_change_what_they_show((shape, slices, order) in view()) {
        properties::writes(&Reference, &Model::counting(&shape), &slices, &order)?;
    }

    #[test]
    fn matrix_products_are_sums(
        (m, k, n) in (0usize..5, 0usize..5, 0usize..5),
        batch in prop::collection::vec((1usize..4, 0u8..3), 0..3),
        transposed in any::<(bool, bool)>(),
        backwards in any::<(bool, bool)>(),
    ) {
        properties::products(&Reference, (m, k, n), &batch, transposed, backwards)?;
    }

    #[test]
    fn sorting_sorts_stably(
        values in prop::collection::vec(-3i64..4, 0..12),
        rows in 1usize..4,
        descending in any::<bool>(),
    ) {
        properties::sorting(&Reference, &values, rows, descending)?;
    }

    #[test]
    fn gather_and_scatter_are_adjoint(
        shape in prop::collection::vec(1usize..5, 1..4),
        axis in 0usize..3,
        seeds in prop::collection::vec(0usize..1000, 60),
        length in 0usize..6,
    ) {
        let axis = axis % shape.len();
        properties::gathers(&Reference, &Model::counting(&shape), axis, length, &seeds)?;
    }

    #[test]
    fn convolutions_are_sums(
        (batch, channels, outputs, groups) in (1usize..3, 1usize..3, 1usize..3, 1usize..3),
        axes in prop::collection::vec((1usize..6, 1usize..4, 1usize..4, 0usize..3, 1usize..3), 1..4),
    ) {
        properties::convolutions(&Reference, batch, channels * groups, outputs * groups, groups, &axes)?;
    }

    #[test]
    fn pools_are_folds_of_windows(
        axes in prop::collection::vec((1usize..8, 1usize..4, 1usize..4, 0usize..2), 1..3),
        ceil in any::<bool>(),
        include in any::<bool>(),
    ) {
        properties::pools(&Reference, &axes, ceil, include)?;
    }
}
