//! The files of the page.

use crate::serve::site::Page;
use crate::web::{self, File, HTML, SCRIPT};

const FILES: &[File] = &[
    ("/", HTML, include_str!("page/index.html")),
    ("/agent/main.js", SCRIPT, include_str!("page/main.js")),
    ("/agent/peers.js", SCRIPT, include_str!("page/peers.js")),
    ("/agent/detail.js", SCRIPT, include_str!("page/detail.js")),
    ("/agent/hops.js", SCRIPT, include_str!("page/hops.js")),
    ("/agent/events.js", SCRIPT, include_str!("page/events.js")),
];

pub fn page(path: &str) -> Option<Page> {
    web::among(FILES, path).or_else(|| web::page(path))
}
