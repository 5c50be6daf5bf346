//! Writes the reference pages of the book: `cargo run -p probe-user --example reference -- DIR [--check]`.

use std::path::Path;
use std::process::ExitCode;
use std::{env, fs, io};

fn main() -> io::Result<ExitCode> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let (directory, check) = match &*arguments {
        [directory] => (Path::new(directory), false),
        [directory, flag] if flag == "--check" => (Path::new(directory), true),
        _ => {
            eprintln!("usage: reference DIR [--check]");
            return Ok(ExitCode::from(2));
        }
    };
    let mut code = ExitCode::SUCCESS;
    for (name, page) in probe_user::reference::pages() {
        let path = directory.join(name);
        if !check {
            fs::write(path, page)?;
        } else if fs::read_to_string(&path)? != page {
            eprintln!("{} is stale", path.display());
            code = ExitCode::FAILURE;
        }
    }
    Ok(code)
}
