//! Saving and loading: round trips, and what does not fit.

use isograd_core::{
    Backend, DType, Error, Tensor, autograd,
    format::{HostArray, mxnet, safetensors},
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
    a_save_that_fails_leaves_the_old_file
    damaged_and_missing_files_are_errors
    a_trainer_goes_on_where_it_stopped
}
