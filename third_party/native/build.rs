//! Gathers the C headers of the pinned crates into one folder, `$CALIMERO_NATIVE_INCLUDE`, where CMake looks.

use std::{env, fs, path::{Path, PathBuf}, process::Command};

fn copy_tree(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("create include folder");
    for entry in fs::read_dir(from).expect("read include folder") {
        let entry = entry.expect("directory entry");
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy_tree(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).expect("copy header");
        }
    }
}

/// Folder of a dependency that declares no `links` key, so cargo passes no DEP_* variable for it.
fn crate_dir(name: &str) -> PathBuf {
    let out = Command::new(env::var_os("CARGO").expect("CARGO"))
        .args(["metadata", "--format-version", "1", "--locked", "--offline"])
        .output()
        .expect("cargo metadata");
    let text = String::from_utf8(out.stdout).expect("metadata is UTF-8");
    let key = "\"manifest_path\":\"";
    let at = text
        .match_indices(key)
        .map(|(i, _)| &text[i + key.len()..])
        .map(|rest| &rest[..rest.find('"').expect("closing quote")])
        .find(|path| path.contains(&format!("/{name}-")))
        .unwrap_or_else(|| panic!("{name} is not among the dependencies"));
    Path::new(at).parent().expect("crate folder").to_path_buf()
}

fn main() {
    println!("cargo:rerun-if-env-changed=CALIMERO_NATIVE_INCLUDE");
    let Some(target) = env::var_os("CALIMERO_NATIVE_INCLUDE").map(PathBuf::from) else { return };
    copy_tree(Path::new(&env::var("DEP_WASMTIME_C_API_INCLUDE").expect("wasmtime headers")), &target);
    let sqlite = crate_dir("libsqlite3-sys").join("sqlcipher/sqlite3.h");
    fs::copy(sqlite, target.join("sqlite3.h")).expect("copy sqlite3.h");
    fs::copy(crate_dir("yyjson-sys").join("yyjson/src/yyjson.h"), target.join("yyjson.h")).expect("copy yyjson.h");
}
