//! Saving and loading: round trips, and what does not fit.

use isograd_core::{
    Backend, DType, Error, Tensor, autograd,
    format::{self, HostArray, mxnet, safetensors},
};
use isograd_nn::{
    BatchNorm, Block, Dense, LoadOptions, Parameters, Sequential, Trainer,
    initializers::{Constant, Normal, One},
    optimizer::SGD,
};
use std::{collections::BTreeMap, fs, path::Path};

fn net<B: Backend>(widths: &[usize]) -> Sequential<B> {
    let mut net = Sequential::new();
    widths.iter().for_each(|&n| {
        net.add(Dense::new(n));
    });
    net
}

fn initialized<B: Backend>(ctx: &B, widths: &[usize]) -> Sequential<B> {
    let net = net(widths);
    net.initialize(Normal { sigma: 1.0 }, ctx).unwrap();
    net.forward(&Tensor::ones(ctx, [1, 3], DType::F32).unwrap()).unwrap();
    net
}

fn bytes<B: Backend>(net: &Sequential<B>) -> Vec<u8> {
    net.collect_params().iter().flat_map(|(_, p)| p.data().unwrap().to_bytes().unwrap()).collect()
}

fn both_formats_bring_back_the_same_values<B: Backend>(ctx: &B) {
    let folder = tempfile::tempdir().unwrap();
    let saved = initialized(ctx, &[4, 2]);
    for name in ["x.safetensors", "x.params", "x"] {
        let file = folder.path().join(name);
        saved.save_parameters(&file).unwrap();
        // Into one that was never initialized, one that is deferred, and one that has values.
        let (fresh, deferred, full) = (net(&[4, 2]), net(&[4, 2]), initialized(ctx, &[4, 2]));
        deferred.initialize(One, ctx).unwrap();
        let before = full.collect_params().get("0.weight").unwrap().data().unwrap();
        for other in [&fresh, &deferred, &full] {
            other.load_parameters(&file, ctx).unwrap();
            assert_eq!(bytes(other), bytes(&saved));
        }
        // Loading writes in place, so handles and gradients stay.
        assert_eq!(
            before.to_bytes().unwrap(),
            saved.collect_params().get("0.weight").unwrap().data().unwrap().to_bytes().unwrap()
        );
        assert!(before.requires_grad());
    }
    assert!(safetensors::load(folder.path().join("x")).is_ok());
    assert!(mxnet::load(folder.path().join("x.params")).is_ok());
}

fn shared_parameters_stay_shared_through_a_file<B: Backend>(ctx: &B) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("shared.safetensors");
    let make = || {
        let first = Dense::new(3);
        let mut net = Sequential::new();
        net.add(first.clone()).add(first);
        net
    };
    let saved: Sequential<B> = make();
    saved.initialize(Normal::default(), ctx).unwrap();
    saved.forward(&Tensor::ones(ctx, [1, 3], DType::F32).unwrap()).unwrap();
    saved.save_parameters(&file).unwrap();
    let loaded = make();
    loaded.load_parameters(&file, ctx).unwrap();
    assert_eq!(bytes(&loaded), bytes(&saved));
    let parameters = loaded.collect_params();
    assert!(parameters.get("0.weight").unwrap().is(parameters.get("1.weight").unwrap()));

    // A file that holds each shared parameter once, under its last path, as Gluon's `deduplicate` writes it.
    let once = folder.path().join("once.params");
    let array =
        |path: &str| (path.to_string(), saved.collect_params().get(path).unwrap().data().unwrap().to_host().unwrap());
    mxnet::save(&once, &mxnet::NdFile::dict([array("1.weight"), array("1.bias")])).unwrap();
    let loaded = make();
    loaded.load_parameters(&once, ctx).unwrap();
    assert_eq!(bytes(&loaded), bytes(&saved));
}

fn what_does_not_fit_is_named_and_changes_nothing<B: Backend>(ctx: &B) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("two.safetensors");
    initialized(ctx, &[4, 2]).save_parameters(&file).unwrap();
    let fails = |widths: &[usize], name: &str, word: &str| {
        let net = initialized(ctx, widths);
        let before = bytes(&net);
        let error = net.load_parameters(&file, ctx).unwrap_err();
        assert!(matches!(&error, Error::Parameter { name: n, .. } if n == name), "{error}");
        assert!(error.to_string().contains(word), "{error}");
        assert_eq!(bytes(&net), before);
        net
    };
    let longer = fails(&[4, 2, 1], "2.weight", "missing in");
    longer.load_parameters_with(&file, ctx, LoadOptions { allow_missing: true, ..LoadOptions::default() }).unwrap();
    let shorter = fails(&[4], "1.bias", "no such parameter");
    shorter.load_parameters_with(&file, ctx, LoadOptions { ignore_extra: true, ..LoadOptions::default() }).unwrap();
    fails(&[4, 5], "1.weight", "(2, 4)");

    let double = Dense::new(1).dtype(DType::F64);
    let single = folder.path().join("single.safetensors");
    let arrays = [
        ("weight", HostArray::from_slice(&[1.5f32, 2.0], [1, 2]).unwrap()),
        ("bias", HostArray::from_slice(&[0.5f32], [1]).unwrap()),
    ];
    safetensors::save(&single, &arrays, &BTreeMap::new()).unwrap();
    assert!(double.load_parameters(&single, ctx).unwrap_err().to_string().contains("cast_dtype"));
    double.load_parameters_with(&single, ctx, LoadOptions { cast_dtype: true, ..LoadOptions::default() }).unwrap();
    assert_eq!(double.weight().data().unwrap().to_vec::<f64>().unwrap(), [1.5, 2.0]);
}

fn names_of_others_are_mapped<B: Backend>(ctx: &B) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("theirs.safetensors");
    let array = |name: &'static str, n: usize| (name, HostArray::from_slice(&vec![n as f32; n], [n]).unwrap());
    let theirs = [
        array("bn.weight", 3),
        array("bn.bias", 3),
        array("bn.running_mean", 3),
        array("bn.running_var", 3),
        ("bn.num_batches_tracked", HostArray::from_slice(&[7i64], []).unwrap()),
    ];
    safetensors::save(&file, &theirs, &BTreeMap::new()).unwrap();
    let renamed = |ours: &str| {
        let name = match ours {
            "gamma" => "weight",
            "beta" => "bias",
            other => other,
        };
        Some(format!("bn.{name}"))
    };
    let layer = || BatchNorm::<B>::new().in_channels(3);
    let mapped = layer();
    mapped.load_parameters_with(&file, ctx, LoadOptions::default().names(renamed)).unwrap();
    assert!(mapped.collect_params().iter().all(|(_, p)| p.data().unwrap().to_vec::<f32>().unwrap() == [3.0; 3]));

    // A table, and one parameter that is not looked for.
    let table = [("gamma", "bn.weight"), ("beta", "bn.bias"), ("running_mean", "bn.running_mean")];
    let error = layer().load_parameters_with(&file, ctx, LoadOptions::default().table(table)).unwrap_err();
    assert!(matches!(&error, Error::Parameter { name, .. } if name == "running_var"), "{error}");
    let partial = layer();
    partial.initialize(One, ctx).unwrap();
    let all_but_mean = move |ours: &str| renamed(ours).filter(|_| ours != "running_mean");
    let options = LoadOptions { ignore_extra: true, ..LoadOptions::default().names(all_but_mean) };
    partial.load_parameters_with(&file, ctx, options).unwrap();
    assert_eq!(partial.running_mean().data().unwrap().to_vec::<f32>().unwrap(), [0.0; 3]);
    assert_eq!(partial.running_var().data().unwrap().to_vec::<f32>().unwrap(), [3.0; 3]);
    let error = layer().load_parameters_with(&file, ctx, LoadOptions::default().names(|p| Some(format!("x.{p}"))));
    assert!(error.unwrap_err().to_string().contains("missing as x.gamma"));
}

fn a_state_is_loaded_whole_or_not_at_all<B: Backend>(ctx: &B) {
    let (one, two) = (initialized(ctx, &[4, 2]), initialized::<B>(ctx, &[4, 2]));
    let before = bytes(&one);
    let mut state = two.state_dict().unwrap();
    // The last does not fit, then the first comes twice.
    state.last_mut().unwrap().1 = Tensor::zeros(ctx, [3], DType::F32).unwrap();
    let error = one.load_state_dict(state.clone()).unwrap_err();
    assert!(matches!(&error, Error::Parameter { name, .. } if name == "1.bias"), "{error}");
    state.last_mut().unwrap().1 = Tensor::zeros(ctx, [2], DType::F64).unwrap();
    assert!(one.load_state_dict(state.clone()).is_err());
    state.pop();
    assert!(one.load_state_dict(state.clone()).is_err());
    state.push(state[0].clone());
    assert!(one.load_state_dict(state).unwrap_err().to_string().contains("twice"));
    assert_eq!(bytes(&one), before);
    // What is loaded may be memory of the network itself.
    let square = Dense::<B>::new(3).in_units(3);
    let mut net = Sequential::new();
    net.add(square).add(Dense::new(3).in_units(3));
    net.initialize(Normal::default(), ctx).unwrap();
    let before = bytes(&net);
    let state = net.state_dict().unwrap();
    let swapped = |path: &str| format!("{}{}", if path.starts_with('0') { "1" } else { "0" }, &path[1..]);
    net.load_state_dict(state.into_iter().map(|(path, data)| (swapped(&path), data))).unwrap();
    let half = before.len() / 2;
    assert_eq!(bytes(&net), [&before[half..], &before[..half]].concat());
    // While something is recorded, and with a part of it frozen, too.
    net.collect_params().matching("0.*").unwrap().freeze().unwrap();
    let state: Vec<_> = net.state_dict().unwrap().into_iter().map(|(p, t)| (p, t.ones_like().unwrap())).collect();
    autograd::record(|| net.load_state_dict(state)).unwrap();
    assert!(
        net.collect_params().iter().all(|(_, p)| p.data().unwrap().to_vec::<f32>().unwrap().iter().all(|x| *x == 1.0))
    );
}

fn a_shared_parameter_has_one_value<B: Backend>(ctx: &B) {
    let folder = tempfile::tempdir().unwrap();
    let make = || {
        let first = Dense::<B>::new(2).in_units(2);
        let mut net = Sequential::new();
        net.add(first.clone()).add(first);
        net
    };
    for name in ["x.params", "x.safetensors"] {
        let file = folder.path().join(name);
        let mut other = Sequential::<B>::new();
        other.add(Dense::new(2).in_units(2)).add(Dense::new(2).in_units(2));
        other.initialize(Normal::default(), ctx).unwrap();
        other.save_parameters(&file).unwrap();
        let net = make();
        net.initialize(One, ctx).unwrap();
        for error in [net.load_parameters(&file, ctx), net.load_state_dict(other.state_dict().unwrap())] {
            let error = error.unwrap_err();
            assert!(matches!(&error, Error::Parameter { name, .. } if name == "1.weight"), "{error}");
            assert!(error.to_string().contains("shared with 0.weight"), "{error}");
        }
        assert_eq!(net.collect_params()["0.weight"].data().unwrap().to_vec::<f32>().unwrap(), [1.0; 4]);
        net.load_state_dict(net.state_dict().unwrap()).unwrap();
    }
}

fn what_does_not_fit_can_be_passed_over<B: Backend>(ctx: &B) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("two.safetensors");
    let saved = initialized::<B>(ctx, &[4, 2]);
    saved.save_parameters(&file).unwrap();
    let other = initialized::<B>(ctx, &[4, 5]);
    let values = |net: &Sequential<B>, path: &str| net.collect_params()[path].data().unwrap().to_vec::<f32>().unwrap();
    let kept = values(&other, "1.weight");
    assert!(other.load_parameters(&file, ctx).unwrap_err().to_string().contains("ignore_mismatched"));
    let options = || LoadOptions { ignore_mismatched: true, ..LoadOptions::default() };
    other.load_parameters_with(&file, ctx, options()).unwrap();
    assert_eq!((values(&other, "0.weight"), values(&other, "1.weight")), (values(&saved, "0.weight"), kept));

    // Of a dtype that is not known here, the rest is loaded.
    let bytes = fs::read(&file).unwrap();
    let (old, new) = (br#""1.bias":{"dtype":"F32","shape":[2]"#, br#""1.bias":{"dtype":"U64","shape":[1]"#);
    let at = bytes.windows(old.len()).position(|w| w == old).unwrap();
    let mut foreign = bytes;
    foreign[at..at + new.len()].copy_from_slice(new);
    fs::write(&file, foreign).unwrap();
    let net = initialized::<B>(ctx, &[4, 2]);
    let error = net.load_parameters(&file, ctx).unwrap_err();
    assert!(
        matches!(&error, Error::Parameter { name, .. } if name == "1.bias") && error.to_string().contains("U64"),
        "{error}"
    );
    let bias = values(&net, "1.bias");
    let options = LoadOptions { allow_missing: true, ..LoadOptions::default() };
    net.load_parameters_with(&file, ctx, options).unwrap();
    assert_eq!((values(&net, "1.weight"), values(&net, "1.bias")), (values(&saved, "1.weight"), bias));
    assert_eq!(format::load_named(&file, ctx).unwrap().len(), 3);
    let one = format::load_one(&file, "0.bias", ctx).unwrap();
    assert_eq!(one.to_vec::<f32>().unwrap(), values(&saved, "0.bias"));
    assert!(format::load_one(&file, "1.bias", ctx).unwrap_err().to_string().contains("U64"));
}

/// As far as it can be told from outside: whatever keeps a file from being written leaves the old one, and nothing else.
fn a_save_that_fails_leaves_the_old_file<B: Backend>(ctx: &B) {
    let folder = tempfile::tempdir().unwrap();
    for name in ["x.params", "x.safetensors"] {
        let file = folder.path().join(name);
        let good = initialized::<B>(ctx, &[2]);
        good.save_parameters(&file).unwrap();
        let before = fs::read(&file).unwrap();
        let entries = || fs::read_dir(&folder).unwrap().count();
        let there = entries();
        // Half of its parameters have no values.
        let deferred = net::<B>(&[2, 3]);
        deferred.initialize(One, ctx).unwrap();
        assert!(matches!(deferred.save_parameters(&file), Err(Error::Uninitialized { .. })));
        // MXNet's format has no bf16.
        let half = Dense::<B>::new(1).in_units(1).dtype(DType::BF16);
        half.initialize(One, ctx).unwrap();
        assert!(name == "x.safetensors" || matches!(half.save_parameters(&file), Err(Error::UnsupportedDType { .. })));
        // A folder is where the file should be.
        fs::create_dir_all(folder.path().join("folder").join(name)).unwrap();
        assert!(matches!(good.save_parameters(folder.path().join("folder").join(name)), Err(Error::Io { .. })));
        fs::remove_dir_all(folder.path().join("folder")).unwrap();
        assert_eq!(fs::read(&file).unwrap(), before);
        assert_eq!(entries(), there, "something is left behind");
    }
}

fn damaged_and_missing_files_are_errors<B: Backend>(ctx: &B) {
    let folder = tempfile::tempdir().unwrap();
    let net: Sequential<B> = initialized(ctx, &[2]);
    let missing = net.load_parameters(folder.path().join("nothing"), ctx).unwrap_err();
    assert!(matches!(missing, Error::Io { .. }), "{missing}");
    for name in ["x.params", "x.safetensors"] {
        let file = folder.path().join(name);
        net.save_parameters(&file).unwrap();
        let whole = fs::read(&file).unwrap();
        fs::write(&file, &whole[..whole.len() - 3]).unwrap();
        let error = net.load_parameters(&file, ctx).unwrap_err();
        assert!(matches!(&error, Error::File { path: Some(p), .. } if *p == file), "{error}");
        // Within the data of the first array.
        fs::write(&file, &whole[..60]).unwrap();
        let error = net.load_parameters(&file, ctx).unwrap_err();
        assert!(matches!(&error, Error::File { path: Some(p), .. } if *p == file), "{error}");
        assert!(name == "x.safetensors" || error.to_string().contains("array 0"), "{error}");
    }
    let list = folder.path().join("list.params");
    mxnet::save(&list, &mxnet::NdFile::list([HostArray::from_slice(&[1.0f32], [1]).unwrap()])).unwrap();
    let error = net.load_parameters(&list, ctx).unwrap_err();
    assert!(matches!(&error, Error::File { path: Some(p), .. } if *p == list), "{error}");
    assert!(matches!(net.save_parameters(Path::new("/no such folder/x")).unwrap_err(), Error::Io { .. }));
}

fn a_trainer_goes_on_where_it_stopped<B: Backend>(ctx: &B) {
    let folder = tempfile::tempdir().unwrap();
    let (weights, states) = (folder.path().join("w"), folder.path().join("s"));
    let x = Tensor::from_slice(ctx, &[1.0f32, -2.0, 0.5], [1, 3]).unwrap();
    let make = || {
        let net = net(&[1]);
        net.initialize(Constant(0.5), ctx).unwrap();
        let trainer = Trainer::new(net.collect_params(), SGD::new(0.1).momentum(0.9)).unwrap();
        (net, trainer)
    };
    let step = |net: &Sequential<B>, trainer: &mut Trainer<B>| {
        autograd::record(|| net.forward(&x)?.square()).unwrap().backward().unwrap();
        trainer.step(1).unwrap();
    };
    let (straight, mut trainer) = make();
    (0..4).for_each(|_| step(&straight, &mut trainer));

    let (first, mut trainer) = make();
    (0..2).for_each(|_| step(&first, &mut trainer));
    first.save_parameters(&weights).unwrap();
    trainer.save_states(&states).unwrap();
    let (second, mut trainer) = make();
    assert!(matches!(trainer.load_states(&weights), Err(Error::Parameter { .. })));
    second.load_parameters(&weights, ctx).unwrap();
    trainer.load_states(&states).unwrap();
    (0..2).for_each(|_| step(&second, &mut trainer));
    assert_eq!(bytes(&second), bytes(&straight));
}

on_every_backend! {
    both_formats_bring_back_the_same_values
    shared_parameters_stay_shared_through_a_file
    what_does_not_fit_is_named_and_changes_nothing
    names_of_others_are_mapped
    a_state_is_loaded_whole_or_not_at_all
    a_shared_parameter_has_one_value
    what_does_not_fit_can_be_passed_over
    a_save_that_fails_leaves_the_old_file
    damaged_and_missing_files_are_errors
    a_trainer_goes_on_where_it_stopped
}
