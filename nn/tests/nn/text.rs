//! Vocabularies, counting, sequences; and tables of text.

use isograd_core::{Backend, Error, Result};
use isograd_nn::data::{
    CsvOptions, FeatureEncoder, FeatureOptions, Features, Table,
    text::{Counter, Sampling, SequenceLoader, Vocabulary, chars, ngrams, normalize, words},
};
use proptest::prelude::*;
use std::{collections::BTreeSet, fs};

on_every_backend! { sequences_cover_the_text }

#[test]
fn tokens() {
    assert_eq!(normalize("  It's 8 o'clock, ÉTÉ!\n"), "it s o clock été");
    assert_eq!(words(" a  b\nc "), ["a", "b", "c"]);
    assert_eq!(chars("né "), ["n", "é", " "]);
}

#[test]
fn counting() {
    let mut counter = Counter::of(["b", "a", "b", "c", "a"]);
    counter.extend(["b"]);
    assert_eq!(counter.most_common(9), [(&"b", 3), (&"a", 2), (&"c", 1)]);
    assert_eq!((counter.count(&"b"), counter.count(&"z"), counter.len(), counter.total()), (3, 0, 3, 6));
    let tokens = [1, 2, 1, 2, 1];
    assert_eq!(Counter::of(ngrams(&tokens, 3)).most_common(1), [(&&[1, 2, 1][..], 2)]);
    assert_eq!(ngrams(&tokens, 6).count() + ngrams(&tokens, 0).count() + ngrams(&[0; 0], 1).count(), 0);
    assert_eq!(ngrams(&tokens, 5).count(), 1);
}

/// The rules of Gluon's `contrib.text.vocab.Vocabulary`.
#[test]
fn vocabularies() -> Result<()> {
    let counter = Counter::of(words("c a b b c b d <unk> <pad>"));
    let all = Vocabulary::new(&counter)?;
    assert_eq!(all.tokens(), ["<unk>", "b", "c", "<pad>", "a", "d"]);
    let options = || Vocabulary::options().reserved(&["<pad>", "<bos>"]);
    let some = Vocabulary::with(&counter, options().most_freq(3))?;
    assert_eq!(some.tokens(), ["<unk>", "<pad>", "<bos>", "b", "c", "a"]);
    assert_eq!(Vocabulary::with(&counter, options().min_freq(3))?.tokens(), ["<unk>", "<pad>", "<bos>", "b"]);
    assert_eq!(Vocabulary::with(&counter, options().unknown("?").min_freq(9))?.tokens(), ["?", "<pad>", "<bos>"]);
    assert_eq!(some.to_indices(&["c", "never", "<bos>"])?, [4, 0, 2]);
    assert_eq!(some.to_tokens(&[4, 0, 2])?, ["c", "<unk>", "<bos>"]);
    assert_eq!((some.len(), some.unknown()), (6, Some(0)));
    assert!(matches!(some.to_tokens(&[6]), Err(Error::InvalidArgument { .. })));
    assert!(matches!(some.to_tokens(&[-1]), Err(Error::InvalidArgument { .. })));
    assert!(matches!(Vocabulary::with(&counter, options().unknown("<pad>")), Err(Error::InvalidArgument { .. })));
    let closed = Vocabulary::of_tokens(["x", "y"])?;
    assert_eq!((closed.index("y")?, closed.unknown()), (1, None));
    assert!(matches!(closed.index("z"), Err(Error::InvalidArgument { .. })));
    Ok(())
}

fn sequences_cover_the_text<B: Backend>(ctx: &B) {
    let corpus: Vec<i64> = (0..100).collect();
    for sampling in [Sampling::Random, Sampling::Consecutive] {
        let loader = || SequenceLoader::new(corpus.clone(), 3, 7).unwrap().sampling(sampling).seed(4);
        let epochs = |loader: SequenceLoader, n: usize| -> Vec<Vec<Vec<i64>>> {
            let of_epoch = |_| {
                let batches = loader.epoch(ctx);
                let announced = batches.len();
                let xs: Vec<Vec<i64>> = batches
                    .map(|pair| {
                        let (x, y) = pair.unwrap();
                        assert_eq!((&x.shape()[..], &y.shape()[..]), (&[3, 7][..], &[3, 7][..]));
                        let x = x.to_vec::<i64>().unwrap();
                        assert_eq!(y.to_vec::<i64>().unwrap(), x.iter().map(|t| t + 1).collect::<Vec<_>>());
                        x
                    })
                    .collect();
                assert_eq!(xs.len(), announced);
                let seen: BTreeSet<i64> = xs.concat().into_iter().collect();
                assert_eq!(seen.len(), xs.len() * 21, "a token came twice");
                assert!(seen.len() >= 100 - 7 - 21 - 3 * 7, "{} tokens", seen.len());
                xs
            };
            (0..n).map(of_epoch).collect()
        };
        let two = epochs(loader(), 2);
        assert_eq!(two, epochs(loader(), 2));
        assert_ne!(two[0], two[1]);
        assert_eq!(two[1], epochs(loader().start_at(1), 1)[0]);
        if sampling == Sampling::Consecutive {
            for pair in two[0].windows(2) {
                assert_eq!(pair[1], pair[0].iter().map(|t| t + 7).collect::<Vec<_>>());
            }
        }
    }
}

proptest! {
    #[test]
    fn any_text_long_enough_gives_a_batch(batch in 1usize..5, steps in 1usize..6, more in 0usize..20, seed: u64) {
        let least = (batch + 1) * steps + 1;
        let corpus: Vec<i64> = (0..(least + more) as i64).collect();
        for sampling in [Sampling::Random, Sampling::Consecutive] {
            let loader = SequenceLoader::new(corpus.clone(), batch, steps).unwrap().sampling(sampling).seed(seed);
            for _ in 0..5 {
                let batches: Vec<_> = loader.epoch(&isograd_reference::Reference).collect::<Result<_>>().unwrap();
                prop_assert!(!batches.is_empty());
            }
        }
        let short = SequenceLoader::new(corpus[..least - 1].to_vec(), batch, steps);
        let refused = matches!(short, Err(Error::InvalidArgument { .. }));
        prop_assert!(refused);
    }
}

#[test]
fn sequences_of_nothing_are_refused() {
    assert!(SequenceLoader::new(vec![1; 50], 0, 5).is_err());
    assert!(SequenceLoader::new(vec![1; 50], 5, 0).is_err());
    assert!(SequenceLoader::new(vec![1; 50], usize::MAX, 2).is_err());
}

fn table(text: &str) -> Result<Table> {
    Table::from_reader(text.as_bytes(), &CsvOptions::default())
}

#[test]
fn tables() -> Result<()> {
    let houses = table("id,area,zone,price\n1,10,\"RL, west\",100\n2,NA,RM,300\n3,30,NA,200\n")?;
    assert_eq!((houses.len(), houses.is_empty()), (3, false));
    assert_eq!(houses.texts("zone")?, [Some("RL, west"), Some("RM"), None]);
    assert_eq!(houses.numbers("price")?, [100.0, 300.0, 200.0]);
    let features = houses.drop(&["id", "price"])?.features()?;
    assert_eq!(features.names(), ["area", "zone_RL, west", "zone_RM", "zone_missing"]);
    assert_eq!(features.array().shape[..], [3, 4]);
    assert_eq!(features.into_array().to_vec::<f32>()?, [-1., 1., 0., 0., 0., 0., 1., 0., 1., 0., 0., 1.]);
    let (classes, names) = table("a\nx\nz\ny\nx\n")?.classes("a")?;
    assert_eq!(
        (classes.to_vec::<i64>()?, names.tokens()),
        (vec![0, 2, 1, 0], &["x".to_string(), "y".into(), "z".into()][..])
    );
    let both = houses.select(&["zone"])?.append(table("zone\nXX\n")?)?;
    assert_eq!(both.features()?.names(), ["zone_RL, west", "zone_RM", "zone_XX", "zone_missing"]);
    // A constant column has no variance to divide by.
    assert_eq!(table("a\n5\n5\n")?.features()?.into_array().to_vec::<f32>()?, [0.0, 0.0]);

    let options = CsvOptions { delimiter: b';', header: false, missing: vec!["?".into()] };
    let plain = Table::from_reader("1;?\n3;4\n".as_bytes(), &options)?;
    assert_eq!(plain.columns(), ["0", "1"]);
    assert!(plain.numbers("1")?[0].is_nan());
    Ok(())
}

fn numbers(features: Result<Features>) -> Vec<f32> {
    features.unwrap().into_array().to_vec().unwrap()
}

#[test]
fn columns_of_any_size_are_standardized() -> Result<()> {
    // What rounding leaves of a constant is no deviation; 0.1 has one in a plain mean of ten.
    for constant in ["0.1", "-7.3", "1e300", "1e-310", "0", "123456789.123"] {
        let text = format!("a\n{}", format!("{constant}\n").repeat(10));
        assert_eq!(numbers(table(&text)?.features()), [0.0; 10], "{constant}");
    }
    let near = numbers(table("a\n0.3\n0.30000000000000004\n0.3\n")?.features());
    assert!(near.iter().all(|v| v.abs() < 1e-6), "{near:?}");
    // Squares beyond the largest number, and below the smallest.
    for scale in ["e200", "e307", "e-200", "e-315"] {
        let text = format!("a\n1{scale}\n-1{scale}\n1{scale}\n-1{scale}\n");
        assert_eq!(numbers(table(&text)?.features()), [1.0, -1.0, 1.0, -1.0], "{scale}");
    }
    assert_eq!(numbers(table("a\n1000000000000000\n1000000000000002\n")?.features()), [-1.0, 1.0]);
    assert_eq!(numbers(table("a\n5\nNAN\n7\n")?.features()), [-1.0, 0.0, 1.0]);
    Ok(())
}

#[test]
fn one_wrong_cell_is_named() -> Result<()> {
    let fault = |text: &str, parts: &[&str], position: u64| {
        let error = table(text).unwrap().features().unwrap_err();
        let message = error.to_string();
        assert!(matches!(error, Error::File { at, .. } if at == position), "{message}");
        parts.iter().for_each(|part| assert!(message.contains(part), "{part} is not in: {message}"));
    };
    fault("id,area\n1,10\n2,12a\n3,30\n", &["\"area\"", "\"12a\"", "categorical", "missing"], 13);
    fault("area\n10\ninf\n30\n", &["\"area\"", "\"inf\"", "finite"], 8);
    fault("area\n10\n-Infinity\n", &["-Infinity"], 8);
    fault("area\n1e999\n1\n", &["1e999"], 5);
    // Columns of text, and of codes that only look like numbers, stay what they are.
    assert_eq!(table("a\nx\ninf\nnan\n")?.features()?.names(), ["a_inf", "a_x", "a_missing"]);
    let codes = FeatureOptions { categorical: vec!["code".into()], ..FeatureOptions::default() };
    let encoder = FeatureEncoder::new(&table("code,n\n20,1\n180B,3\n")?, &codes)?;
    assert_eq!(encoder.names(), ["code_180B", "code_20", "n"]);
    let unknown = FeatureOptions { categorical: vec!["no".into()], ..FeatureOptions::default() };
    assert!(matches!(FeatureEncoder::new(&table("a\n1\n")?, &unknown), Err(Error::InvalidArgument { .. })));
    Ok(())
}

#[test]
fn an_encoder_keeps_the_statistics_of_its_table() -> Result<()> {
    let train = table("area,zone\n10,A\n30,B\nNA,A\n")?;
    let encoder = FeatureEncoder::new(&train, &FeatureOptions::default())?;
    assert_eq!(encoder.apply(&train)?, train.features()?);
    // Other columns are left out, and the order is the encoder's.
    let test = table("id,zone,area\n1,B,50\n2,A,\n")?;
    let features = encoder.apply(&test)?;
    assert_eq!((features.names(), &features.array().shape[..]), (encoder.names(), &[2, 3][..]));
    assert_eq!(features.into_array().to_vec::<f32>()?, [3.0, 0.0, 1.0, 0.0, 1.0, 0.0]);
    let refused = |text: &str, word: &str| {
        let error = encoder.apply(&table(text).unwrap()).unwrap_err().to_string();
        assert!(error.contains(word), "{error}");
    };
    refused("area,zone\n1,C\n", "\"C\"");
    refused("area,zone\n1,NA\n", "no value");
    refused("area,zone\nx,A\n", "no number");
    refused("area,zone\ninf,A\n", "not finite");
    refused("zone\nA\n", "\"area\"");
    let lenient = FeatureOptions { ignore_unknown: true, ..FeatureOptions::default() };
    let encoder = FeatureEncoder::new(&train, &lenient)?;
    assert_eq!(numbers(encoder.apply(&table("area,zone\n20,C\n20,\n")?)), [0.0; 6]);
    assert!(numbers(encoder.apply(&table("area,zone\n")?)).is_empty());
    Ok(())
}

#[test]
fn a_column_of_many_values_is_named() -> Result<()> {
    let rows: String = (0..30_000).map(|i| format!("name{i},{}\n", i % 7)).collect();
    let many = table(&format!("owner,n\n{rows}"))?;
    let error = many.features().unwrap_err();
    let named = ["\"owner\"", "1000", "max_values"].iter().all(|part| error.to_string().contains(part));
    assert!(matches!(error, Error::InvalidArgument { .. }) && named, "{error}");
    assert_eq!(many.drop(&["owner"])?.features()?.names(), ["n"]);
    let more = FeatureOptions { max_values: 1001, ..FeatureOptions::default() };
    let rows: String = (0..1001).map(|i| format!("name{i}\n")).collect();
    assert_eq!(FeatureEncoder::new(&table(&format!("a\n{rows}"))?, &more)?.names().len(), 1001);
    Ok(())
}

#[test]
fn tables_that_are_none() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("t.csv");
    let fault = |bytes: &[u8], position: u64| {
        fs::write(&path, bytes).unwrap();
        let read = Table::load(&path, &CsvOptions::default());
        let error = read.and_then(|table| table.numbers("a")).unwrap_err();
        let placed = matches!(&error, Error::File { path: Some(p), at, .. } if *p == path && *at == position);
        assert!(placed, "{error}");
    };
    fault(b"a,b\n1,2\n3\n", 8);
    fault(b"a,b\n1,2\n\xff,4\n", 8);
    fault(b"a,b\n1,2\nx,4\n", 8);
    fault(b"a,a\n1,2\n", 0);
    assert!(matches!(Table::load("no such file", &CsvOptions::default()), Err(Error::Io { .. })));
    let one = table("a\n1\n\"\"\n").unwrap();
    assert!(matches!(one.numbers("b"), Err(Error::InvalidArgument { .. })));
    assert!(matches!(one.select(&["b"]), Err(Error::InvalidArgument { .. })));
    assert!(matches!(one.classes("a"), Err(Error::InvalidArgument { .. })));
    assert!(matches!(one.append(table("b\n1\n").unwrap()), Err(Error::InvalidArgument { .. })));
    assert!(matches!(table("a\n").unwrap().features(), Err(Error::InvalidArgument { .. })));
}
