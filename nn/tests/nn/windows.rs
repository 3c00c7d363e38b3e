//! Transposed convolution and adaptive pooling, activations beyond Gluon's, and initializers of single parameters.

use isograd_core::{Backend, DType, Error, Tensor, operators::random};
use isograd_nn::{
    initializers::{
        Bilinear, Constant, Factor, Identity, LSTMBias, MSRAPrelu, Normal, One, Orthogonal, Random, TruncatedNormal,
        Uniform, Xavier,
    },
    *,
};

on_every_backend! {
    transposed_convolution_by_hand
    transposed_convolution_is_the_adjoint
    adaptive_windows
    activations
    gradients_are_those_of_differences
    every_parameter_has_its_initializer
    initializers_give_the_same_everywhere
    ceil_mode_sees_the_input
    sizes_beyond_all_memory
    misuse_is_reported
}

fn random<B: Backend>(ctx: &B, shape: &[usize]) -> Tensor<B> {
    Tensor::normal(ctx, shape, 0.0, 1.0, DType::F32).unwrap().cast(DType::F64).unwrap()
}

/// Each input element adds the kernel times itself, `stride` elements further on.
fn transposed_convolution_by_hand<B: Backend>(ctx: &B) {
    let layer = Conv1DTranspose::new(1, 3).strides(2).bias_initializer(Constant(0.5));
    layer.initialize(One, ctx).unwrap();
    let x = Tensor::from_slice(ctx, &[1.0f32, 2.0, 3.0], [1, 1, 3]).unwrap();
    let y = layer.forward(&x).unwrap().to_vec::<f32>().unwrap();
    assert_eq!(y, [1.5, 1.5, 3.5, 2.5, 5.5, 3.5, 3.5]);
    let cut = Conv1DTranspose::new(1, 3).strides(2).padding(1).output_padding(1).use_bias(false).in_channels(1);
    assert_eq!(cut.weight().shape().unwrap(), [1usize, 1, 3]);
    cut.initialize(One, ctx).unwrap();
    assert_eq!(cut.forward(&x).unwrap().to_vec::<f32>().unwrap(), [1.0, 3.0, 2.0, 5.0, 3.0, 3.0]);
    assert_eq!(
        cut.to_string(),
        "Conv1DTranspose(1 -> 1, kernel_size=(3,), stride=(2,), padding=(1,), output_padding=(1,), bias=False)"
    );
}

/// Σ conv(x) · y = Σ x · transposed(y), with one weight for both.
fn transposed_convolution_is_the_adjoint<B: Backend>(ctx: &B) {
    random::seed(9);
    let conv = Conv2D::new(6, [3, 2]).strides([2, 1]).padding(1).dilation([1, 2]).groups(2).use_bias(false);
    let back = Conv2DTranspose::new(4, [3, 2])
        .strides([2, 1])
        .padding(1)
        .dilation([1, 2])
        .groups(2)
        .output_padding([1, 0])
        .use_bias(false);
    crate::gradients::double(&conv);
    crate::gradients::double(&back);
    conv.initialize(Normal { sigma: 1.0 }, ctx).unwrap();
    back.initialize(Normal { sigma: 1.0 }, ctx).unwrap();
    let x = random(ctx, &[2, 4, 6, 5]);
    let there = conv.forward(&x).unwrap();
    let y = random(ctx, there.shape());
    let fitting = back.forward(&y).unwrap();
    assert_eq!(fitting.shape(), x.shape());
    back.weight().set_data(&conv.weight().data().unwrap()).unwrap();
    let inner = |a: &Tensor<B>, b: &Tensor<B>| a.mul(b).unwrap().sum((), false).unwrap().asscalar::<f64>().unwrap();
    let (left, right) = (inner(&there, &y), inner(&x, &back.forward(&y).unwrap()));
    assert!((left - right).abs() < 1e-9 * left.abs().max(1.0), "{left} and {right}");
}

fn adaptive_windows<B: Backend>(ctx: &B) {
    let x = Tensor::arange(ctx, 0, 35, 1, DType::F64).unwrap().reshape([1, 1, 5, 7]).unwrap();
    let (rows, columns) = (3, 2);
    let window = |i: usize, n: usize, m: usize| (i * n / m)..((i + 1) * n).div_ceil(m);
    let (mut means, mut most) = (vec![], vec![]);
    for r in 0..rows {
        for c in 0..columns {
            let inside: Vec<f64> =
                window(r, 5, rows).flat_map(|i| window(c, 7, columns).map(move |j| (i * 7 + j) as f64)).collect();
            means.push(inside.iter().sum::<f64>() / inside.len() as f64);
            most.push(inside.iter().copied().fold(f64::MIN, f64::max));
        }
    }
    let got = AdaptiveAvgPool2D::new([rows, columns]).forward(&x).unwrap().to_vec::<f64>().unwrap();
    assert!(got.iter().zip(&means).all(|(a, b)| (a - b).abs() < 1e-12), "{got:?} instead of {means:?}");
    assert_eq!(AdaptiveMaxPool2D::new([rows, columns]).forward(&x).unwrap().to_vec::<f64>().unwrap(), most);
    let volume = x.reshape([1, 1, 1, 5, 7]).unwrap();
    assert_eq!(AdaptiveMaxPool3D::new(1).forward(&volume).unwrap().to_vec::<f64>().unwrap(), [34.0]);
    assert_eq!(AdaptiveAvgPool3D::default().forward(&volume).unwrap().to_vec::<f64>().unwrap(), [17.0]);
    // More windows than elements repeat them.
    let line = Tensor::from_slice(ctx, &[1.0f64, 2.0], [1, 1, 2]).unwrap();
    assert_eq!(AdaptiveAvgPool1D::new(3).forward(&line).unwrap().to_vec::<f64>().unwrap(), [1.0, 1.5, 2.0]);
    let label = Parameters::<B>::label(&AdaptiveAvgPool2D::new(7)).unwrap();
    assert_eq!(label, "AdaptiveAvgPool2D(output_size=(7, 7))");
}

fn activations<B: Backend>(ctx: &B) {
    let xs = [-8.0, -2.2, -0.3, 0.4, 2.0, 7.0f64];
    let x = Tensor::from_slice(ctx, &xs, [6]).unwrap();
    let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
    let softplus = |x: f64| x.exp().ln_1p();
    let inner = |x: f64| (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x * x * x);
    type Function<'a> = &'a dyn Fn(f64) -> f64;
    let table: [(&str, Function); 7] = [
        ("relu6", &|x| x.clamp(0.0, 6.0)),
        ("silu", &|x| x * sigmoid(x)),
        ("gelu_tanh", &|x| 0.5 * x * (1.0 + inner(x).tanh())),
        ("mish", &|x| x * softplus(x).tanh()),
        ("hard_sigmoid", &|x| (0.2 * x + 0.5).clamp(0.0, 1.0)),
        ("hard_swish", &|x| x * (x / 6.0 + 0.5).clamp(0.0, 1.0)),
        ("log_sigmoid", &|x| sigmoid(x).ln()),
    ];
    for (name, expected) in table {
        let activation: Activation = name.parse().unwrap();
        let got = activation.forward(&x).unwrap().to_vec::<f64>().unwrap();
        let expected: Vec<f64> = xs.iter().map(|&x| expected(x)).collect();
        assert!(got.iter().zip(&expected).all(|(a, b)| (a - b).abs() < 1e-12), "{name}: {got:?}, {expected:?}");
        crate::gradients::check(name, |x| activation.forward(&x[0]), &[x.detach().copy().unwrap()], None);
    }
    // x Φ(x): Φ(1) = 0.841344746...
    let one = Tensor::from_slice(ctx, &[1.0f64], [1]).unwrap();
    let gelu = Activation::Gelu.forward(&one).unwrap().to_vec::<f64>().unwrap()[0];
    assert!((gelu - 0.841_344_746_068_543).abs() < 1e-12);
}

fn gradients_are_those_of_differences<B: Backend>(ctx: &B) {
    random::seed(4);
    let layer = Conv2DTranspose::new(2, 3).strides(2).padding(1).output_padding(1).activation(Activation::Tanh);
    crate::gradients::double(&layer);
    layer.initialize(Normal { sigma: 0.5 }, ctx).unwrap();
    crate::gradients::check("transposed", |x| layer.forward(&x[0]), &[random(ctx, &[1, 2, 2, 3])], Some(&layer));
    let pool = AdaptiveAvgPool2D::new(2);
    crate::gradients::check("mean", |x| pool.forward(&x[0]), &[random(ctx, &[1, 2, 3, 5])], None);
    let pool = AdaptiveMaxPool2D::new(2);
    crate::gradients::check("maximum", |x| pool.forward(&x[0]), &[random(ctx, &[1, 2, 3, 5])], None);
}

fn every_parameter_has_its_initializer<B: Backend>(ctx: &B) {
    let value = |p: &Parameter<B>| p.data().unwrap().to_vec::<f32>().unwrap()[0];
    let lstm = LSTM::new(2)
        .i2h_weight_initializer(Constant(1.0))
        .h2h_weight_initializer(Constant(2.0))
        .i2h_bias_initializer(Constant(3.0))
        .h2h_bias_initializer(Constant(4.0))
        .num_layers(2)
        .bidirectional(true)
        .input_size(3);
    lstm.initialize(Uniform::default(), ctx).unwrap();
    let values: Vec<f32> = lstm.collect_params().iter().map(|(_, p)| value(p)).collect();
    assert_eq!(values, [1.0, 2.0, 3.0, 4.0].repeat(4));
    let cell = GRUCell::new(2).h2h_bias_initializer(Constant(4.0)).h2h_weight_initializer(Constant(2.0));
    cell.initialize(One, ctx).unwrap();
    cell.step(&Tensor::ones(ctx, [1, 3], DType::F32).unwrap(), &cell.begin_state(ctx, 1).unwrap()).unwrap();
    let values: Vec<f32> = cell.collect_params().iter().map(|(_, p)| value(p)).collect();
    assert_eq!(values, [1.0, 2.0, 0.0, 4.0]);
    let torch = RNN::new(16).input_size(4).torch_defaults();
    torch.initialize(One, ctx).unwrap();
    for (path, p) in torch.collect_params().iter() {
        let largest = p.data().unwrap().abs().unwrap().max((), false).unwrap().asscalar::<f32>().unwrap();
        assert!(largest > 0.1 && largest <= 0.25, "{path}: {largest}");
    }

    let norm = BatchNorm::new()
        .in_channels(2)
        .gamma_initializer(Constant(5.0))
        .beta_initializer(Constant(6.0))
        .running_mean_initializer(Constant(7.0))
        .running_variance_initializer(Constant(8.0));
    norm.initialize(One, ctx).unwrap();
    let values: Vec<f32> = norm.collect_params().iter().map(|(_, p)| value(p)).collect();
    assert_eq!(values, [5.0, 6.0, 7.0, 8.0]);
    let layer = LayerNorm::new().in_channels(2).gamma_initializer(Constant(0.0));
    layer.initialize(One, ctx).unwrap();
    assert_eq!((value(layer.gamma()), value(layer.beta())), (0.0, 0.0));
    let slope = PReLU::new().alpha_initializer(Constant(0.5));
    slope.initialize(One, ctx).unwrap();
    assert_eq!(value(slope.alpha()), 0.5);
}

fn initializers_give_the_same_everywhere<B: Backend>(ctx: &B) {
    fn values<B: Backend>(ctx: &B, of: &dyn Initializer<B>, shape: &[usize]) -> Vec<f32> {
        random::seed(31);
        of.initialize(ctx, "w", &shape.into(), DType::F32).unwrap().to_vec().unwrap()
    }
    macro_rules! compare {
        ($($initializer:expr, $shape:expr;)*) => { $(
            let (here, there) = (values(ctx, &$initializer, &$shape), values(&isograd_reference::Reference, &$initializer, &$shape));
            let close = |(a, b): (&f32, &f32)| (a - b).abs() <= 1e-5 * (1.0 + b.abs());
            assert!(here.len() == there.len() && here.iter().zip(&there).all(close), "{:?}", $initializer);
            assert!(here.iter().any(|v| *v != 0.0), "{:?}", $initializer);
        )* };
    }
    let xavier = Xavier { rnd_type: Random::Gaussian, factor_type: Factor::Out, magnitude: 2.0 };
    compare! {
        Uniform::default(), [20, 30];
        Normal::default(), [20, 30];
        TruncatedNormal::default(), [20, 30];
        Xavier::default(), [20, 3, 3, 3];
        xavier, [20, 30];
        MSRAPrelu::default(), [20, 30];
        MSRAPrelu::he(), [20, 3, 5];
        Orthogonal::default(), [6, 4, 2];
        Orthogonal { scale: 1.0, rand_type: Random::Gaussian }, [4, 9];
        Bilinear, [2, 1, 4, 4];
        LSTMBias::default(), [8];
        Identity::default(), [3, 3, 3];
    }
}

/// Parameters, windows and outputs of any size that a number can say are errors.
fn sizes_beyond_all_memory<B: Backend>(ctx: &B) {
    let x = Tensor::ones(ctx, [1, 1, 5], DType::F32).unwrap();
    let refused = |what: &str, y: isograd_core::Result<Tensor<B>>| {
        let error = y.err().unwrap_or_else(|| panic!("{what} ran"));
        let known =
            matches!(error, Error::OutOfMemory { .. } | Error::InvalidShape { .. } | Error::InvalidArgument { .. });
        assert!(known, "{what}: {error}");
    };
    for n in [1 << 40, 1 << 62, 1 << 63, usize::MAX] {
        let conv = |layer: Conv1D<B>| layer.initialize(One, ctx).and_then(|()| layer.forward(&x));
        refused("padding", conv(Conv1D::new(1, 2).padding(n)));
        refused("dilation", conv(Conv1D::new(1, 2).dilation(n)));
        refused("kernel", conv(Conv1D::new(1, n)));
        refused("channels", conv(Conv1D::new(n, 2)));
        assert_eq!(conv(Conv1D::new(1, 2).strides(n)).unwrap().size(), 1);
        refused("pooling", MaxPool1D::new(n).forward(&x));
        refused("pooling", AvgPool1D::new(2).padding(n).ceil_mode(true).forward(&x));
        refused("adaptive", AdaptiveAvgPool1D::new(n).forward(&x));
        refused("adaptive", AdaptiveMaxPool1D::new(n).forward(&x));
        let dense = Dense::<B>::new(n);
        refused("dense", dense.initialize(One, ctx).and_then(|()| dense.forward(&x)));
        let lstm = LSTM::<B>::new(n);
        refused("lstm", lstm.initialize(One, ctx).and_then(|()| lstm.forward(&x)));
    }
}

/// Ceil mode keeps no window that would begin behind the input.
fn ceil_mode_sees_the_input<B: Backend>(ctx: &B) {
    let x = Tensor::full(ctx, [1, 1, 5, 5], -1.0, DType::F32).unwrap();
    let y = MaxPool2D::new(2).strides(2).padding(1).ceil_mode(true).forward(&x).unwrap();
    assert_eq!((&y.shape()[..], y.to_vec::<f32>().unwrap()), (&[1, 1, 3, 3][..], vec![-1.0; 9]));
    let mean = AvgPool2D::new(2).strides(2).padding(1).ceil_mode(true).count_include_pad(false);
    assert_eq!(mean.forward(&x).unwrap().to_vec::<f32>().unwrap(), [-1.0; 9]);
}

fn misuse_is_reported<B: Backend>(ctx: &B) {
    let x = Tensor::ones(ctx, [1, 4, 3], DType::F32).unwrap();
    assert!(matches!(Conv2DTranspose::new(2, 3).forward(&x), Err(Error::InvalidShape { .. })));
    assert!(matches!(Conv1DTranspose::new(3, 3).groups(2).forward(&x), Err(Error::InvalidShape { .. })));
    let long = Conv1DTranspose::new(2, 3).output_padding(1);
    long.initialize(One, ctx).unwrap();
    assert!(long.forward(&x).unwrap_err().to_string().contains("output_padding 1 must be below"));
    assert!(matches!(AdaptiveAvgPool2D::new(2).forward(&x), Err(Error::InvalidShape { .. })));
    assert!(matches!(AdaptiveAvgPool1D::new(0).forward(&x), Err(Error::InvalidArgument { .. })));
}
