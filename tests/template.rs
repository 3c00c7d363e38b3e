//! The crate in `examples/template`, which users copy, runs and learns.
#![cfg(feature = "cpu")]

mod template {
    include!("../examples/template/src/main.rs");

    #[test]
    fn it_runs() {
        let folder = tempfile::tempdir().unwrap();
        std::env::set_current_dir(folder.path()).unwrap();
        main().unwrap();
        assert!(isograd::format::safetensors::load("circle.safetensors").unwrap().arrays.len() == 4);
    }
}
