//! Metrics against MXNet's, which are data (`golden/metrics.json`), and against values by hand where MXNet weighs batches alike
//! that are not.

use isograd_core::{Backend, DType, Tensor};
use isograd_nn::metric::*;
use serde_json::{Map, Value};

fn tensor<B: Backend>(ctx: &B, value: &Value) -> Tensor<B> {
    let shape: Vec<usize> = serde_json::from_value(value["shape"].clone()).unwrap();
    let data: Vec<f32> = serde_json::from_value(value["data"].clone()).unwrap();
    Tensor::from_slice(ctx, &data, shape).unwrap()
}

fn metrics_are_as_in_mxnet<B: Backend>(ctx: &B) {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/metrics.json");
    let cases: Vec<Map<String, Value>> = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    let mut compared = 0;
    for case in cases {
        let (kind, arguments) = (case["metric"].as_str().unwrap(), &case["args"]);
        // Without an argument MXNet takes each batch for itself.
        let average = if arguments["average"] == "micro" { Average::Micro } else { Average::Macro };
        let mut metric: Box<dyn Metric<B>> = match kind {
            "Accuracy" => Box::new(Accuracy::default()),
            "TopKAccuracy" => Box::new(TopKAccuracy::new(arguments["top_k"].as_u64().unwrap() as usize)),
            "F1" => Box::new(F1::default().average(average)),
            "MCC" => Box::new(MCC::default().average(average)),
            "CrossEntropy" => Box::new(CrossEntropy::default()),
            "NegativeLogLikelihood" => Box::new(NegativeLogLikelihood::default()),
            "Perplexity" => Box::new(match arguments["ignore_label"].as_i64() {
                Some(label) => Perplexity::default().ignore_label(label),
                None => Perplexity::default(),
            }),
            "MAE" => Box::new(MAE::default()),
            "MSE" => Box::new(MSE::default()),
            "RMSE" => Box::new(RMSE::default()),
            "PearsonCorrelation" => Box::new(PearsonCorrelation::default().average(average)),
            other => panic!("there is no metric {other} here"),
        };
        assert!(metric.value().is_nan(), "{kind} of nothing is {}", metric.value());
        let batches = case["batches"].as_array().unwrap();
        let sizes: Vec<&Value> = batches.iter().map(|b| &b[0]["shape"]).collect();
        let by_batch = ["MAE", "MSE", "RMSE"].contains(&kind);
        if by_batch && (kind == "RMSE" || sizes[0] != sizes[1]) {
            // MXNet takes the mean of the batches' values.
            continue;
        }
        for batch in batches {
            let label = tensor(ctx, &batch[0]);
            let label = if by_batch || kind == "PearsonCorrelation" { label } else { label.cast(DType::I64).unwrap() };
            metric.update(&label, &tensor(ctx, &batch[1])).unwrap();
        }
        let expected = case["value"].as_f64().unwrap();
        assert!(
            (metric.value() - expected).abs() < 1e-6,
            "{kind} {arguments}: {} instead of {expected}",
            metric.value()
        );
        metric.reset();
        assert!(metric.value().is_nan(), "{kind} is not reset");
        compared += 1;
    }
    assert!(compared >= 14, "only {compared}");
}

fn batches_count_by_their_sizes<B: Backend>(ctx: &B) {
    let of = |values: &[f32]| Tensor::from_slice(ctx, values, [values.len()]).unwrap();
    let mut metrics: Vec<Box<dyn Metric<B>>> =
        vec![Box::new(MAE::default()), Box::new(MSE::default()), Box::new(RMSE::default())];
    for metric in &mut metrics {
        metric.update(&of(&[0.0, 0.0, 0.0]), &of(&[1.0, -1.0, 2.0])).unwrap();
        metric.update(&of(&[1.0]), &of(&[5.0])).unwrap();
    }
    let values: Vec<f64> = metrics.iter().map(|m| m.value()).collect();
    assert_eq!(values, [2.0, 5.5, 5.5f64.sqrt()]);
    // In f64 where the device has it: the mean of 0.1 as f32 is that number, not what f32 sums give.
    let mut mean = LossMean::default();
    let many = Tensor::full(ctx, [10_000], 0.1, DType::F32).unwrap();
    mean.update(&many, &many).unwrap();
    assert!((mean.value() - f64::from(0.1f32)).abs() < 1e-12);
}

fn the_correlation_of_matthews_is_by_hand<B: Backend>(ctx: &B) {
    let classes = |c: &[i64]| Tensor::from_slice(ctx, c, [c.len()]).unwrap();
    let mut metric = MCC::default();
    metric.update(&classes(&[1, 1, 1, 0, 0, 0]), &classes(&[1, 1, 0, 0, 0, 1])).unwrap();
    // TP 2, FP 1, FN 1, TN 2: (4 - 1) / 9.
    assert!((metric.value() - 1.0 / 3.0).abs() < 1e-12);
    let mut f1 = F1::default();
    f1.update(&classes(&[0, 0]), &classes(&[0, 0])).unwrap();
    assert_eq!(f1.value(), 0.0);
}

on_every_backend! {
    metrics_are_as_in_mxnet
    batches_count_by_their_sizes
    the_correlation_of_matthews_is_by_hand
}
