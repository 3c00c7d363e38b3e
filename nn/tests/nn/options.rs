//! Options out of their domains are refused by the first call that can fail, with the name of what they are an option of, the
//! option and its value. To add an option: a row.

use isograd_core::{Backend, DType, Error, Result, Tensor, operators::random};
use isograd_nn::{
    data::vision::Normalize,
    initializers::{self, Initializer, One},
    loss::*,
    optimizer::*,
    *,
};

on_every_backend! {
    layers_refuse_their_options
    losses_refuse_their_options
    optimizers_refuse_their_options
    initializers_refuse_their_options
    scalers_and_limits_refuse_their_options
}

const NAN: f64 = f64::NAN;

fn refused(what: &str, result: Result<()>, option: &str) {
    let error = result.expect_err(&format!("{what} took its {option}"));
    let text = error.to_string();
    let named = matches!(error, Error::InvalidArgument { .. }) && text.starts_with(what) && text.contains(option);
    assert!(named, "{what}, {option}: {text}");
}

fn layers_refuse_their_options<B: Backend>(ctx: &B) {
    random::seed(1);
    let x = Tensor::ones(ctx, [2, 3, 4], DType::F32).unwrap();
    let run = |block: &dyn Block<B>| {
        block.collect_params().initialize(One, ctx)?;
        block.forward(&x).map(drop)
    };
    // In predict mode too, where nothing is dropped.
    for rate in [1.5, -0.1, 1.0, NAN] {
        refused("Dropout", run(&Dropout::new(rate)), "rate");
        refused("MultiHeadAttention", run(&MultiHeadAttention::new(4, 2).dropout(rate)), "dropout");
        refused("TransformerEncoderBlock", run(&TransformerEncoderBlock::new(4, 2, 3).dropout(rate)), "dropout");
        refused("PositionalEncoding", run(&PositionalEncoding::new(rate)), "dropout");
        refused("LSTM", run(&LSTM::new(2).dropout(rate)), "dropout");
        refused("GRU", run(&GRU::new(2).num_layers(2).dropout(rate)), "dropout");
        let attention = DotProductAttention::new(rate);
        refused("DotProductAttention", attention.forward(&(x.clone(), x.clone(), x.clone())).map(drop), "dropout");
    }
    refused("LSTM", run(&LSTM::new(2).num_layers(0)), "num_layers");
    refused("RNN", RNN::<B>::new(2).num_layers(0).begin_state(ctx, 1).map(drop), "num_layers");
    for epsilon in [-1e-5, NAN] {
        refused("BatchNorm", run(&BatchNorm::new().epsilon(epsilon)), "epsilon");
        refused("LayerNorm", run(&LayerNorm::new().epsilon(epsilon)), "epsilon");
        refused("GroupNorm", run(&GroupNorm::new(1).epsilon(epsilon)), "epsilon");
        refused("InstanceNorm", run(&InstanceNorm::new().epsilon(epsilon)), "epsilon");
    }
    for momentum in [-0.1, 1.1, NAN] {
        refused("BatchNorm", run(&BatchNorm::new().momentum(momentum)), "momentum");
    }
    refused("LeakyReLU", run(&LeakyReLU::new(NAN)), "alpha");
    refused("ELU", run(&ELU::new(NAN)), "alpha");
    refused("Swish", run(&Swish::new(NAN)), "beta");
    assert!(matches!(run(&Dropout::new(0.5).axes(&[3])), Err(Error::AxisOutOfRange { .. })));
}

fn losses_refuse_their_options<B: Backend>(ctx: &B) {
    let x = Tensor::ones(ctx, [2, 3], DType::F32).unwrap();
    let run = |loss: &dyn Loss<B>| loss.loss(&x, &x).map(drop);
    for rho in [0.0, -1.0, NAN] {
        refused("HuberLoss", run(&HuberLoss { rho, ..HuberLoss::default() }), "rho");
    }
    refused("HingeLoss", run(&HingeLoss { margin: NAN, ..HingeLoss::default() }), "margin");
    refused("SquaredHingeLoss", run(&SquaredHingeLoss { margin: NAN, ..SquaredHingeLoss::default() }), "margin");
    refused("L1Loss", run(&L1Loss { weight: Some(NAN), ..L1Loss::default() }), "weight");
    refused("L2Loss", run(&L2Loss { weight: NAN, ..L2Loss::default() }), "weight");
    let triplet = TripletLoss { margin: NAN, ..TripletLoss::default() };
    refused("TripletLoss", triplet.loss(&x, &x, &x, None).map(drop), "margin");
    let (cosine, label) =
        (CosineEmbeddingLoss { margin: NAN, weight: None }, Tensor::ones(ctx, [2], DType::F32).unwrap());
    refused("CosineEmbeddingLoss", cosine.loss(&x, &x, &label, None).map(drop), "margin");
}

fn parameters<B: Backend>(ctx: &B) -> ParameterDict<B> {
    let w = Parameter::new("w", &[Some(2)]);
    w.initialize(One, ctx).unwrap();
    w.collect_params()
}

fn optimizers_refuse_their_options<B: Backend>(ctx: &B) {
    let all = parameters(ctx);
    macro_rules! rows {
        ($($name:ident: $($option:ident)*;)*) => { $(
            for wrong in [-0.1, NAN] {
                refused(stringify!($name), Trainer::new(all.clone(), $name::new(wrong)).map(drop), "learning_rate");
                refused(stringify!($name), Trainer::new(all.clone(), $name::new(0.1).weight_decay(wrong)).map(drop), "weight_decay");
                refused(stringify!($name), Trainer::new(all.clone(), $name::new(0.1).clip_gradient(wrong)).map(drop), "clip_gradient");
                $(refused(stringify!($name), Trainer::new(all.clone(), $name::new(0.1).$option(wrong)).map(drop), stringify!($option));)*
                let inner = MultiPrecision(Scheduled::new($name::new(wrong), Schedule::cosine(3)));
                refused(stringify!($name), Trainer::new(all.clone(), inner).map(drop), "learning_rate");
            }
            refused(stringify!($name), Trainer::new(all.clone(), $name::new(f64::INFINITY)).map(drop), "learning_rate");
            assert!(Trainer::new(all.clone(), $name::new(0.0)).is_ok());
        )* };
    }
    rows! {
        SGD: momentum;
        NAG: momentum;
        Signum: momentum wd_lh;
        Adam: beta1 beta2 epsilon;
        AdamW: beta1 beta2 epsilon;
        AdaMax: beta1 beta2;
        Nadam: beta1 beta2 epsilon schedule_decay;
        LAMB: beta1 beta2 epsilon;
        RMSProp: gamma1 gamma2 epsilon;
        AdaGrad: epsilon;
        AdaDelta: rho epsilon;
        Ftrl: lamda1 beta;
    }
    refused("Adam", Trainer::new(all.clone(), Adam::new(0.1).beta2(1.0)).map(drop), "beta2");
    let bounds = LAMB::new(0.1).lower_bound(Some(2.0)).upper_bound(Some(1.0));
    refused("LAMB", Trainer::new(all.clone(), bounds).map(drop), "lower_bound");
    let scheduled = |schedule: Schedule| Trainer::new(all.clone(), Scheduled::new(SGD::new(0.1), schedule)).map(drop);
    refused("Schedule", scheduled(Schedule::factor(0, 0.5)), "every");
    refused("Schedule", scheduled(Schedule::factor(1, -0.5)), "factor");
    refused("Schedule", scheduled(Schedule::multi_factor(&[1], NAN)), "factor");
    refused("Schedule", scheduled(Schedule::poly(5, NAN)), "power");
    refused("Schedule", scheduled(Schedule::cosine(0)), "updates");
    refused("Schedule", scheduled(Schedule::cosine(5).end(-1.0)), "end");
    refused("Schedule", scheduled(Schedule::cosine(5).warm_up_from(NAN)), "warm_up_from");

    // What changes later is refused by the next step, before anything is updated.
    let w = all.find("w").or_else(|_| all.find("")).unwrap();
    let backward = || isograd_core::autograd::record(|| w.data()?.square()).unwrap().backward().unwrap();
    let mut trainer = Trainer::new(all.clone(), SGD::new(0.1)).unwrap();
    backward();
    trainer.set_learning_rate(-1.0);
    refused("SGD", trainer.step(1), "learning_rate");
    trainer.set_learning_rate(0.1);
    trainer.set_rescale_grad(NAN);
    refused("Trainer::step", trainer.step(1), "rescale_grad");
    trainer.set_rescale_grad(1.0);
    w.set_lr_mult(-1.0);
    assert!(trainer.step(1).unwrap_err().to_string().contains("lr_mult"));
    w.set_lr_mult(1.0);
    assert_eq!(w.data().unwrap().to_vec::<f32>().unwrap(), [1.0, 1.0]);
    trainer.step(1).unwrap();

    // A learning rate of 0 changes nothing, not even by a division.
    let mut trainer = Trainer::new(all.clone(), Ftrl::new(0.0)).unwrap();
    let before = w.data().unwrap().to_vec::<f32>().unwrap();
    backward();
    trainer.step(1).unwrap();
    assert_eq!(w.data().unwrap().to_vec::<f32>().unwrap(), before);
}

fn initializers_refuse_their_options<B: Backend>(ctx: &B) {
    let make = |of: &dyn Initializer<B>| of.initialize(ctx, "w", &[2, 2].into(), DType::F32).map(drop);
    refused("Uniform", make(&initializers::Uniform { scale: NAN }), "scale");
    refused("Normal", make(&initializers::Normal { sigma: -1.0 }), "sigma");
    let truncated = initializers::TruncatedNormal { sigma: NAN, ..initializers::TruncatedNormal::default() };
    refused("TruncatedNormal", make(&truncated), "sigma");
    let xavier = initializers::Xavier { magnitude: -3.0, ..initializers::Xavier::default() };
    refused("Xavier", make(&xavier), "magnitude");
    let orthogonal = initializers::Orthogonal { scale: NAN, ..initializers::Orthogonal::default() };
    refused("Orthogonal", make(&orthogonal), "scale");
    refused("Constant", make(&initializers::Constant(NAN)), "value");
}

fn scalers_and_limits_refuse_their_options<B: Backend>(ctx: &B) {
    let loss = Tensor::ones(ctx, [2], DType::F32).unwrap();
    let run = |scaler: LossScaler| scaler.scale(&loss).map(drop);
    for scale in [0.0, -1.0, NAN, f64::INFINITY] {
        refused("LossScaler", run(LossScaler::new().init_scale(scale)), "init_scale");
    }
    refused("LossScaler", run(LossScaler::new().growth_factor(0.5)), "growth_factor");
    refused("LossScaler", run(LossScaler::new().backoff_factor(1.0)), "backoff_factor");
    refused("LossScaler", run(LossScaler::new().backoff_factor(NAN)), "backoff_factor");
    refused("LossScaler", run(LossScaler::new().growth_interval(0)), "growth_interval");
    refused("LossScaler", run(LossScaler::new().min_scale(0.0)), "min_scale");
    for limit in [-1.0, NAN] {
        refused("clip_global_norm", clip_global_norm(&parameters(ctx), limit).map(drop), "max_norm");
    }
    for (mean, std) in [(&[0.0; 3][..], &[1.0; 2][..]), (&[f32::NAN], &[1.0]), (&[0.0], &[-1.0]), (&[0.0], &[0.0])] {
        refused("Normalize", Normalize::new(mean, std).map(drop), "mean");
    }
}
