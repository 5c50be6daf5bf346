//! The files of the page.

use crate::command::controller::output::drawing::STYLE as NETWORK_STYLE;
use crate::serve::site::Page;
use crate::web::{self, File, HTML, SCRIPT, STYLE};

const FILES: &[File] = &[
    ("/", HTML, include_str!("page/index.html")),
    ("/controller/main.js", SCRIPT, include_str!("page/main.js")),
    ("/controller/links.js", SCRIPT, include_str!("page/links.js")),
    ("/controller/page.css", STYLE, include_str!("page/page.css")),
    ("/controller/network.css", STYLE, NETWORK_STYLE),
];

pub(super) fn page(path: &str) -> Option<Page> {
    web::among(FILES, path).or_else(|| web::page(path))
}
