//! CTC: every alignment tried, Gluon's own numbers, gradients by differences.

use isograd_core::{Backend, DType, Error, Tensor, autograd, operators::random};
use isograd_nn::loss::{Blank, CTCLoss, Loss};

on_every_backend! {
    every_alignment_counts
    gluons_numbers
    lengths_cut_off_what_is_beyond
    gradients_are_those_of_differences
    what_cannot_be_spelled_costs_infinity
    misuse_is_reported
}

/// What a path spells: repetitions merged, then blanks removed.
fn spells(path: &[usize], blank: usize) -> Vec<i64> {
    let mut spelled = vec![];
    for (i, &class) in path.iter().enumerate() {
        if class != blank && (i == 0 || path[i - 1] != class) {
            spelled.push(class as i64);
        }
    }
    spelled
}

/// -ln of the summed probabilities of all classes^times paths.
fn brute_force(scores: &[f64], times: usize, classes: usize, label: &[i64], blank: usize) -> f64 {
    let probability = |time: usize, class: usize| {
        let row = &scores[time * classes..(time + 1) * classes];
        row[class].exp() / row.iter().map(|s| s.exp()).sum::<f64>()
    };
    let mut total = 0.0;
    for number in 0..classes.pow(times as u32) {
        let path: Vec<usize> = (0..times).map(|t| number / classes.pow(t as u32) % classes).collect();
        if spells(&path, blank) == label {
            total += path.iter().enumerate().map(|(t, &c)| probability(t, c)).product::<f64>();
        }
    }
    -total.ln()
}

fn every_alignment_counts<B: Backend>(ctx: &B) {
    let (times, classes) = (5, 4);
    random::seed(2);
    for (blank, labels) in [
        (Blank::Last, [[0i64, 1, 2], [1, 1, -1], [2, -1, -1], [-1, -1, -1], [0, 1, 0]]),
        (Blank::First, [[1, 2, 3], [3, 3, 0], [2, -1, -1], [0, 0, 0], [1, 2, 1]]),
    ] {
        let scores = Tensor::normal(ctx, [5, times, classes], 0.0, 2.0, DType::F32).unwrap().cast(DType::F64).unwrap();
        let label = Tensor::from_slice(ctx, labels.as_flattened(), [5, 3]).unwrap();
        let loss = CTCLoss { blank, ..CTCLoss::default() };
        let got = loss.loss(&scores, &label).unwrap().to_vec::<f64>().unwrap();
        let turned = CTCLoss { time_major: true, label_time_major: true, ..loss };
        let swapped = turned.loss(&scores.swapaxes(0, 1).unwrap(), &label.swapaxes(0, 1).unwrap()).unwrap();
        assert_eq!(got, swapped.to_vec::<f64>().unwrap());
        let number = if blank == Blank::Last { classes - 1 } else { 0 };
        let all = scores.to_vec::<f64>().unwrap();
        for (i, row) in labels.iter().enumerate() {
            let wanted: Vec<i64> = row.iter().copied().take_while(|&c| c >= i64::from(blank == Blank::First)).collect();
            let expected = brute_force(&all[i * times * classes..], times, classes, &wanted, number);
            assert!((got[i] - expected).abs() < 1e-9, "{blank:?}, {row:?}: {} instead of {expected}", got[i]);
        }
    }
}

/// Of the tests of Gluon's CTCLoss.
fn gluons_numbers<B: Backend>(ctx: &B) {
    let label = Tensor::from_slice(ctx, &[1.0f32, 0.0, -1.0, -1.0, 2.0, 1.0, 1.0, -1.0], [2, 4]).unwrap();
    let close = |loss: Tensor<B>| {
        let loss = loss.to_vec::<f32>().unwrap();
        assert!((loss[0] - 18.828_207).abs() < 1e-4 && (loss[1] - 16.505_817).abs() < 1e-4, "{loss:?}");
    };
    let scores = Tensor::ones(ctx, [2, 20, 4], DType::F32).unwrap();
    close(CTCLoss::default().loss(&scores, &label).unwrap());
    let longer = Tensor::ones(ctx, [2, 25, 4], DType::F32).unwrap();
    let label = Tensor::from_slice(ctx, &[2i64, 1, 2, 2, 0, 2, 2, 2], [2, 4]).unwrap();
    let times = Tensor::from_slice(ctx, &[20i64, 20], [2]).unwrap();
    let lengths = Tensor::from_slice(ctx, &[2.0f32, 3.0], [2]).unwrap();
    close(CTCLoss::default().loss_with_lengths(&longer, &label, Some(&times), Some(&lengths), None).unwrap());
}

fn lengths_cut_off_what_is_beyond<B: Backend>(ctx: &B) {
    random::seed(4);
    let scores = Tensor::normal(ctx, [3, 6, 3], 0.0, 1.0, DType::F32).unwrap();
    let label = Tensor::from_slice(ctx, &[0i64, 1, 1, 0, 0, -1], [3, 2]).unwrap();
    let times = Tensor::from_slice(ctx, &[6i64, 4, 0], [3]).unwrap();
    let counts = Tensor::from_slice(ctx, &[2i64, 2, 0], [3]).unwrap();
    let weight = Tensor::from_slice(ctx, &[1.0f32, 1.0, 2.0], [3]).unwrap();
    let loss = CTCLoss { weight: Some(0.5), ..CTCLoss::default() };
    let got = loss.loss_with_lengths(&scores, &label, Some(&times), Some(&counts), Some(&weight)).unwrap();
    let got = got.to_vec::<f32>().unwrap();
    let alone = |i: usize, n: usize| {
        let scores = scores.narrow(0, i, 1).unwrap().narrow(1, 0, n).unwrap();
        loss.loss(&scores, &label.narrow(0, i, 1).unwrap()).unwrap().to_vec::<f32>().unwrap()[0]
    };
    assert!((got[0] - alone(0, 6)).abs() < 1e-5 && (got[1] - alone(1, 4)).abs() < 1e-5);
    assert_eq!(got[2], 0.0, "nothing spells nothing for certain");
}

fn gradients_are_those_of_differences<B: Backend>(ctx: &B) {
    random::seed(6);
    let scores = Tensor::normal(ctx, [3, 5, 3], 0.0, 1.0, DType::F32).unwrap().cast(DType::F64).unwrap();
    let label = Tensor::from_slice(ctx, &[0i64, 1, 1, 1, -1, -1], [3, 2]).unwrap();
    let times = Tensor::from_slice(ctx, &[5i64, 4, 3], [3]).unwrap();
    let loss = |x: &[Tensor<B>]| CTCLoss::default().loss_with_lengths(&x[0], &label, Some(&times), None, None);
    crate::gradients::check("CTC", loss, &[scores], None);
}

fn what_cannot_be_spelled_costs_infinity<B: Backend>(ctx: &B) {
    // Two equal labels need a blank between them.
    let scores = Tensor::zeros(ctx, [2, 2, 3], DType::F32).unwrap();
    scores.attach_grad().unwrap();
    let label = Tensor::from_slice(ctx, &[1i64, 1, 0, 1], [2, 2]).unwrap();
    let loss = autograd::record(|| CTCLoss::default().loss(&scores, &label)).unwrap();
    loss.backward().unwrap();
    let values = loss.to_vec::<f32>().unwrap();
    assert!(values[0] == f32::INFINITY && (values[1] - 9f32.ln()).abs() < 1e-5, "{values:?}");
    let gradient = scores.grad().unwrap().to_vec::<f32>().unwrap();
    assert_eq!(gradient[..6], [0.0; 6]);
    assert!(gradient[6..].iter().all(|g| g.is_finite()) && gradient[6] < 0.0);
}

fn misuse_is_reported<B: Backend>(ctx: &B) {
    let scores = Tensor::zeros(ctx, [2, 4, 3], DType::F32).unwrap();
    let label = |values: [i64; 2]| Tensor::from_slice(ctx, &values, [2, 1]).unwrap();
    let loss = CTCLoss::default();
    let error = loss.loss(&scores, &label([0, 2])).unwrap_err();
    assert!(matches!(error, Error::InvalidArgument { .. }) && error.to_string().contains("label 2 of sample 1"));
    let first = CTCLoss { blank: Blank::First, ..loss };
    assert!(first.loss(&scores, &label([1, 2])).is_ok());
    let flat = Tensor::zeros(ctx, [2, 3], DType::F32).unwrap();
    assert!(matches!(loss.loss(&flat, &label([0, 0])), Err(Error::InvalidShape { .. })));
    let three = Tensor::from_slice(ctx, &[0i64, 0, 0], [3, 1]).unwrap();
    assert!(loss.loss(&scores, &three).unwrap_err().to_string().contains("batch of 2"));
    let times = Tensor::from_slice(ctx, &[4i64, 5], [2]).unwrap();
    let error = loss.loss_with_lengths(&scores, &label([0, 0]), Some(&times), None, None).unwrap_err();
    assert!(error.to_string().contains("prediction length 5 at [1]"), "{error}");
}
