//! Labels, class numbers and their shapes: what losses, metrics and embeddings take, and what they refuse.

use isograd_core::{Backend, DType, Error, Result, Tensor, autograd};
use isograd_nn::{Block, Embedding, Parameters, initializers::Identity, loss::*, metric::*};

on_every_backend! {
    class_numbers_are_whole_and_in_range
    ignored_labels_cost_nothing
    labels_have_the_shape_of_predictions
    weights_are_one_per_sample
    predictions_may_be_probabilities
    metrics_of_two_classes_refuse_three
    more_than_all_classes_are_all
    an_ignored_label_may_be_negative
}

fn tensor<B: Backend>(ctx: &B, values: &[f32], shape: &[usize]) -> Tensor<B> {
    Tensor::from_slice(ctx, values, shape).unwrap()
}

/// What takes labels `[2]`, which of all classes (three, or two) must be named when one is refused.
type Taker<'a, B> = (&'static str, Box<dyn Fn(&Tensor<B>) -> Result<()> + 'a>);

fn takers<B: Backend>(ctx: &B) -> Vec<Taker<'_, B>> {
    let three = tensor(ctx, &[0.2, 0.3, 0.5, 0.1, 0.1, 0.8], &[2, 3]);
    let two = tensor(ctx, &[0.2, 0.8, 0.9, 0.1], &[2, 2]);
    let mut all: Vec<Taker<'_, B>> = vec![];
    let scores = three.clone();
    all.push((
        "SoftmaxCrossEntropyLoss",
        Box::new(move |labels| SoftmaxCrossEntropyLoss::default().loss(&scores, labels).map(drop)),
    ));
    macro_rules! metrics {
        ($($name:literal $metric:expr, $scores:expr;)*) => { $({
            let scores = $scores.clone();
            all.push(($name, Box::new(move |labels| $metric.update(labels, &scores))));
        })* };
    }
    metrics! {
        "Accuracy" Accuracy::default(), three;
        "TopKAccuracy" TopKAccuracy::new(2), three;
        "CrossEntropy" CrossEntropy::default(), three;
        "NegativeLogLikelihood" NegativeLogLikelihood::default(), three;
        "Perplexity" Perplexity::default(), three;
        "F1" F1::default(), two;
        "MCC" MCC::default(), two;
    }
    let table = Embedding::new(3, 2);
    table.initialize(Identity::default(), ctx).unwrap();
    all.push(("Embedding", Box::new(move |words| table.forward(words).map(drop))));
    all
}

fn class_numbers_are_whole_and_in_range<B: Backend>(ctx: &B) {
    for (name, take) in takers(ctx) {
        take(&tensor(ctx, &[1.0, 0.0], &[2])).unwrap();
        for dtype in [DType::I32, DType::I64, DType::U8, DType::F16, DType::F64] {
            take(&tensor(ctx, &[1.0, 0.0], &[2]).cast(dtype).unwrap()).unwrap();
        }
        for wrong in [-1.0f32, -96.0, 1.5, 3.0, f32::NAN, f32::INFINITY] {
            let error = take(&tensor(ctx, &[0.0, wrong], &[2])).unwrap_err();
            let text = error.to_string();
            let named = text.starts_with(name) && text.contains(&format!(" {wrong} at [1]"));
            assert!(matches!(error, Error::InvalidArgument { .. }) && named, "{name}, {wrong}: {text}");
        }
        let text = take(&Tensor::from_slice(ctx, &[-1i32, 0], [2]).unwrap()).unwrap_err().to_string();
        assert!(text.starts_with(name) && text.contains("-1 at [0]"), "{text}");
    }
    let scores = Tensor::zeros(ctx, [1, 4, 3], DType::F32).unwrap();
    for wrong in [0.5f32, f32::NAN] {
        let text = CTCLoss::default().loss(&scores, &tensor(ctx, &[wrong], &[1, 1])).unwrap_err().to_string();
        assert!(text.starts_with("CTCLoss") && text.contains(&format!("label {wrong} at [0, 0]")), "{text}");
    }
    let a = tensor(ctx, &[1.0, 0.0], &[1, 2]);
    for wrong in [0.0f32, 2.0, f32::NAN] {
        let error = CosineEmbeddingLoss::default().loss(&a, &a, &tensor(ctx, &[wrong], &[1]), None).unwrap_err();
        assert!(error.to_string().contains(&format!("CosineEmbeddingLoss: label {wrong} ")), "{error}");
    }
}

fn ignored_labels_cost_nothing<B: Backend>(ctx: &B) {
    let scores = tensor(ctx, &[0.0, 1.0, 2.0, 3.0, 1.0, 0.0, 5.0, 5.0], &[2, 2, 2]);
    let plain = SoftmaxCrossEntropyLoss::default();
    for ignored in [-100i64, 1, 255] {
        let loss = SoftmaxCrossEntropyLoss { ignore_label: Some(ignored), ..plain };
        let labels = Tensor::from_slice(ctx, &[0, ignored, ignored, ignored], [2, 2]).unwrap();
        scores.attach_grad().unwrap();
        let values = autograd::record(|| loss.loss(&scores, &labels)).unwrap();
        values.backward().unwrap();
        // The mean over the one position that counts: -ln(1 / (1 + e)).
        let expected = (1.0 + 1f32.exp()).ln();
        let got = values.to_vec::<f32>().unwrap();
        assert!((got[0] - expected).abs() < 1e-6 && got[1] == 0.0, "{ignored}: {got:?}");
        let gradient = scores.grad().unwrap().to_vec::<f32>().unwrap();
        let p = 1f32.exp() / (1.0 + 1f32.exp());
        assert!((gradient[0] + p).abs() < 1e-6 && (gradient[1] - p).abs() < 1e-6, "{gradient:?}");
        assert_eq!(gradient[2..], [0.0; 6]);
    }
    let labels = Tensor::from_slice(ctx, &[0i64, -100, 1, 0], [2, 2]).unwrap();
    let error = plain.loss(&scores, &labels).unwrap_err().to_string();
    assert!(error.contains("label -100 at [0, 1]"), "{error}");
    let other = SoftmaxCrossEntropyLoss { ignore_label: Some(-1), ..plain }.loss(&scores, &labels).unwrap_err();
    assert!(other.to_string().contains("or -1 for what is left out"), "{other}");
    let dense = SoftmaxCrossEntropyLoss { sparse_label: false, ignore_label: Some(-1), ..plain };
    assert!(dense.loss(&scores, &scores).unwrap_err().to_string().contains("ignore_label"));
}

fn labels_have_the_shape_of_predictions<B: Backend>(ctx: &B) {
    let prediction = tensor(ctx, &[0.1, 0.2, 0.3, 0.4, 0.5, 0.6], &[2, 3]);
    let column = tensor(ctx, &[0.1, 0.2, 0.3, 0.4], &[4, 1]);
    let losses: Vec<(&str, Box<dyn Loss<B>>)> = vec![
        ("L1Loss", Box::new(L1Loss::default())),
        ("L2Loss", Box::new(L2Loss::default())),
        ("HuberLoss", Box::new(HuberLoss::default())),
        ("HingeLoss", Box::new(HingeLoss::default())),
        ("SquaredHingeLoss", Box::new(SquaredHingeLoss::default())),
        ("LogisticLoss", Box::new(LogisticLoss::default())),
        ("SigmoidBinaryCrossEntropyLoss", Box::new(SigmoidBCELoss::default())),
        ("KLDivLoss", Box::new(KLDivLoss::default())),
        ("PoissonNLLLoss", Box::new(PoissonNLLLoss::default())),
    ];
    let refused = |name: &str, result: Result<()>| {
        let error = result.unwrap_err();
        let fits = matches!(error, Error::ShapeMismatch { .. }) && error.to_string().starts_with(name);
        assert!(fits, "{name}: {error}");
    };
    for (name, loss) in &losses {
        for shape in [&[3, 2][..], &[6], &[1, 6], &[2, 3, 1, 2]] {
            let label = Tensor::ones(ctx, shape, DType::F32).unwrap();
            refused(name, loss.loss(&prediction, &label).map(drop));
        }
        let row = Tensor::ones(ctx, [1, 4], DType::F32).unwrap();
        refused(name, loss.loss(&column, &row).map(drop));
        assert_eq!(loss.loss(&column, &Tensor::ones(ctx, [4], DType::F32).unwrap()).unwrap().shape(), &[4]);
        let label = Tensor::ones(ctx, [2, 1, 3], DType::F32).unwrap();
        assert_eq!(loss.loss(&prediction, &label).unwrap().shape(), &[2]);
    }
    let softmax = SoftmaxCrossEntropyLoss::default();
    for labels in [vec![3], vec![1, 2], vec![2, 2]] {
        let labels = Tensor::zeros(ctx, labels, DType::I64).unwrap();
        refused("SoftmaxCrossEntropyLoss", softmax.loss(&prediction, &labels).map(drop));
    }
    let turned = Tensor::ones(ctx, [3, 2], DType::F32).unwrap();
    let dense = SoftmaxCrossEntropyLoss { sparse_label: false, ..softmax };
    refused("SoftmaxCrossEntropyLoss", dense.loss(&prediction, &turned).map(drop));
    let one = Tensor::ones(ctx, [2], DType::F32).unwrap();
    refused("CosineEmbeddingLoss", CosineEmbeddingLoss::default().loss(&prediction, &turned, &one, None).map(drop));
    refused("TripletLoss", TripletLoss::default().loss(&prediction, &turned, &turned, None).map(drop));
    macro_rules! metrics {
        ($($metric:ident)*) => { $(
            refused(stringify!($metric), $metric::default().update(&turned, &prediction));
            $metric::default().update(&column.reshape([4]).unwrap(), &column).unwrap();
        )* };
    }
    metrics!(MAE MSE RMSE PearsonCorrelation);

    // An axis that is not there is no axis of samples.
    let beyond = L2Loss { batch_axis: 2, ..L2Loss::default() };
    assert!(matches!(beyond.loss(&prediction, &prediction), Err(Error::AxisOutOfRange { op: "L2Loss", .. })));
}

fn weights_are_one_per_sample<B: Backend>(ctx: &B) {
    let weight = tensor(ctx, &[1.0, 0.0, 2.0], &[3]);
    let scores = tensor(ctx, &[0.0, 0.0, 1.0, 1.0, 2.0, 2.0], &[3, 2]);
    let labels = Tensor::from_slice(ctx, &[0i64, 1, 1], [3]).unwrap();
    let loss = SoftmaxCrossEntropyLoss::default();
    let ln2 = std::f32::consts::LN_2;
    for weight in [&weight, &weight.reshape([3, 1]).unwrap()] {
        let got = loss.loss_weighted(&scores, &labels, Some(weight)).unwrap().to_vec::<f32>().unwrap();
        assert!(got.iter().zip([ln2, 0.0, 2.0 * ln2]).all(|(a, b)| (a - b).abs() < 1e-6), "{got:?}");
    }
    // As many outputs as samples: still one weight per sample.
    let (zeros, ones) =
        (Tensor::zeros(ctx, [3, 3], DType::F32).unwrap(), Tensor::ones(ctx, [3, 3], DType::F32).unwrap());
    let got = L1Loss::default().loss_weighted(&zeros, &ones, Some(&weight)).unwrap();
    assert_eq!(got.to_vec::<f32>().unwrap(), [1.0, 0.0, 2.0]);
    let (a, label) = (tensor(ctx, &[1.0, 0.0, 0.0, 1.0, 1.0, 0.0], &[3, 2]), tensor(ctx, &[-1.0; 3], &[3]));
    let got = CosineEmbeddingLoss::default().loss(&a, &a, &label, Some(&weight.reshape([3, 1]).unwrap())).unwrap();
    assert_eq!(got.shape(), &[3]);
    let wrong = Tensor::ones(ctx, [2], DType::F32).unwrap();
    let column = zeros.narrow(1, 0, 1).unwrap();
    let error = L1Loss::default().loss_weighted(&column, &column, Some(&wrong)).unwrap_err();
    assert!(error.to_string().contains("sample weight"), "{error}");
}

fn value<B: Backend>(metric: &impl Metric<B>) -> f64 {
    metric.value()
}

fn predictions_may_be_probabilities<B: Backend>(ctx: &B) {
    let labels = tensor(ctx, &[1.0, 0.0, 1.0, 1.0], &[4]);
    let sigmoids = tensor(ctx, &[0.9, 0.2, 0.4, 0.6], &[4]);
    for (labels, predictions) in [
        (labels.clone(), sigmoids.clone()),
        (labels.reshape([4, 1]).unwrap(), sigmoids.clone()),
        (labels.clone(), sigmoids.reshape([4, 1]).unwrap()),
        (labels.reshape([4, 1]).unwrap(), sigmoids.reshape([4, 1]).unwrap()),
    ] {
        let (mut accuracy, mut f1) = (Accuracy::default(), F1::default());
        accuracy.update(&labels, &predictions).unwrap();
        f1.update(&labels, &predictions).unwrap();
        assert_eq!(value::<B>(&accuracy), 0.75);
        assert!((value::<B>(&f1) - 0.8).abs() < 1e-12);
    }
    for wrong in [1.7f32, -0.5, f32::NAN] {
        let predictions = tensor(ctx, &[0.5, 0.5, 0.5, wrong], &[4]);
        let error = Accuracy::default().update(&labels, &predictions).unwrap_err().to_string();
        assert!(error.contains(&format!("Accuracy: prediction {wrong} ")), "{error}");
    }
    // Scores against a column of labels, as MXNet takes them.
    let scores = tensor(ctx, &[0.1, 0.9, 0.8, 0.2, 0.7, 0.3, 0.4, 0.6], &[4, 2]);
    for labels in [labels.clone(), labels.reshape([4, 1]).unwrap()] {
        let (mut accuracy, mut entropy) = (Accuracy::default(), CrossEntropy::default());
        accuracy.update(&labels, &scores).unwrap();
        entropy.update(&labels, &scores).unwrap();
        assert_eq!(value::<B>(&accuracy), 0.75);
    }
    // Whole numbers are classes, of which there may be more than two.
    let classes = tensor(ctx, &[3.0, 0.0, 1.0, 2.0], &[4]);
    let mut accuracy = Accuracy::default();
    accuracy.update(&labels, &classes).unwrap();
    assert_eq!(value::<B>(&accuracy), 0.5);
}

fn metrics_of_two_classes_refuse_three<B: Backend>(ctx: &B) {
    let scores = tensor(ctx, &[0.8, 0.1, 0.1, 0.1, 0.8, 0.1, 0.1, 0.1, 0.8], &[3, 3]);
    let labels = tensor(ctx, &[0.0, 1.0, 2.0], &[3]);
    for result in [F1::default().update(&labels, &scores), MCC::default().update(&labels, &scores)] {
        assert!(result.unwrap_err().to_string().contains("the scores are of 3"));
    }
    for result in [F1::default().update(&labels, &labels), MCC::default().update(&labels, &labels)] {
        assert!(result.unwrap_err().to_string().contains("prediction 2 at [2]"));
    }
}

fn more_than_all_classes_are_all<B: Backend>(ctx: &B) {
    let scores = tensor(ctx, &[0.5, 0.3, 0.2, 0.1, 0.2, 0.7], &[2, 3]);
    let mut metric = TopKAccuracy::new(5);
    metric.update(&tensor(ctx, &[1.0, 0.0], &[2]), &scores).unwrap();
    assert_eq!(value::<B>(&metric), 1.0);
    let error = TopKAccuracy::new(0).update(&tensor(ctx, &[1.0, 0.0], &[2]), &scores).unwrap_err();
    assert!(error.to_string().contains("TopKAccuracy: k must be at least 1"), "{error}");
}

fn an_ignored_label_may_be_negative<B: Backend>(ctx: &B) {
    let probabilities = tensor(ctx, &[0.25, 0.75, 0.9, 0.1], &[2, 2]);
    for dtype in [DType::F32, DType::I64] {
        let labels = tensor(ctx, &[0.0, -100.0], &[2]).cast(dtype).unwrap();
        let mut metric = Perplexity::default().ignore_label(-100);
        metric.update(&labels, &probabilities).unwrap();
        assert!((value::<B>(&metric) - 4.0).abs() < 1e-6);
    }
}
