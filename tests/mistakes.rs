//! The commonest mistakes of the first hours: each does not compile, the message names what is wrong and leads to the cure, no
//! message leads to a path that users cannot or should not write, and the cure compiles.
#![cfg(feature = "cpu")]

use std::{
    path::{Path, PathBuf},
    process::Command,
};

struct Mistake {
    name: &'static str,
    /// What stands in `main`, after a context, a tensor and a network.
    wrong: &'static str,
    /// What the message must have.
    says: &'static [&'static str],
    right: &'static str,
}

include!("mistakes/table.rs");

/// The compiler, told where the library is: beside this test, in as many builds as there were sets of features, the newest of
/// which was built for this test or after it.
fn rustc() -> Command {
    let deps = std::env::current_exe().unwrap().parent().unwrap().to_path_buf();
    let is_library = |path: &PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        name.starts_with("libisograd-") && name.ends_with(".rlib")
    };
    let libraries = std::fs::read_dir(&deps).unwrap().map(|entry| entry.unwrap().path()).filter(is_library);
    let library = libraries.max_by_key(|path| path.metadata().unwrap().modified().unwrap()).unwrap();
    let mut rustc = Command::new(std::env::var_os("RUSTC").unwrap_or("rustc".into()));
    rustc.args(["--edition", "2024", "--crate-type", "bin", "--emit", "metadata", "--cap-lints", "warn", "-L"]);
    rustc.arg(format!("dependency={}", deps.display())).arg("--extern").arg(format!("isograd={}", library.display()));
    rustc
}

/// What the compiler says of a program, and whether it takes it.
fn compile(folder: &Path, name: &str, program: &str) -> (bool, String) {
    let file = folder.join(format!("{name}.rs"));
    std::fs::write(&file, program).unwrap();
    // Where macros look for the name that a crate gives the library.
    std::fs::write(folder.join("Cargo.toml"), "[package]\nname = \"user\"\n[dependencies]\nisograd = \"0.1\"\n")
        .unwrap();
    let output = rustc().env("CARGO_MANIFEST_DIR", folder).arg("--out-dir").arg(folder).arg(&file).output().unwrap();
    (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
}

fn program(body: &str) -> String {
    format!(
        "#![allow(unused)]\nuse isograd::prelude::*;\nfn main() -> Result<()> {{\n\
         let ctx = device(\"cpu\")?;\nlet x = Tensor::ones(&ctx, [2, 3], DType::F32)?;\nlet mut net: Sequential = Sequential::new();\n\
         {body}\nOk(())\n}}\n"
    )
}

#[test]
fn messages_lead_to_the_cure() {
    let folder = tempfile::tempdir().unwrap();
    let failures: Vec<String> = std::thread::scope(|scope| {
        let halves = MISTAKES.chunks(MISTAKES.len().div_ceil(2));
        let check = |mistakes: &'static [Mistake]| {
            let folder = folder.path();
            scope.spawn(move || mistakes.iter().filter_map(|mistake| failure(folder, mistake)).collect::<Vec<_>>())
        };
        let threads: Vec<_> = halves.map(check).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
    // All cures at once, each in a module of its own.
    let cures: String = MISTAKES
        .iter()
        .map(|m| format!("mod {} {{\n{}\n}}\n", m.name, program(m.right).split_once('\n').unwrap().1))
        .collect();
    let (compiles, text) = compile(folder.path(), "cures", &format!("#![allow(unused)]\n{cures}\nfn main() {{}}\n"));
    assert!(compiles, "{text}");
}

/// What is wrong with the message of a mistake.
fn failure(folder: &Path, mistake: &Mistake) -> Option<String> {
    let (compiles, text) = compile(folder, mistake.name, &program(mistake.wrong));
    if std::env::var_os("ISOGRAD_SHOW_MISTAKES").is_some() {
        println!("=== {}\n{text}", mistake.name);
    }
    if compiles {
        return Some(format!("{} compiles", mistake.name));
    }
    let missing = mistake.says.iter().find(|word| !text.contains(**word));
    // The crates below the façade, which a user's crate does not have.
    let astray = ["use isograd_", "isograd::isograd_"].iter().find(|path| text.contains(**path));
    match (missing, astray) {
        (None, None) => None,
        (Some(word), _) => Some(format!("{}: the message does not say {word:?}:\n{text}", mistake.name)),
        (_, Some(path)) => Some(format!("{}: the message leads to {path:?}:\n{text}", mistake.name)),
    }
}
