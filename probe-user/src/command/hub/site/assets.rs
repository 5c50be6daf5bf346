//! The files of the page.

use crate::serve::site::Page;
use crate::web::{self, File, HTML, SCRIPT, STYLE};

const FILES: &[File] = &[
    ("/", HTML, include_str!("page/index.html")),
    ("/hub/main.js", SCRIPT, include_str!("page/main.js")),
    ("/hub/cells.js", SCRIPT, include_str!("page/cells.js")),
    ("/hub/legend.js", SCRIPT, include_str!("page/legend.js")),
    ("/hub/matrix.js", SCRIPT, include_str!("page/matrix.js")),
    ("/hub/order.js", SCRIPT, include_str!("page/order.js")),
    ("/hub/paint.js", SCRIPT, include_str!("page/paint.js")),
    ("/hub/pair.js", SCRIPT, include_str!("page/pair.js")),
    ("/hub/shades.js", SCRIPT, include_str!("page/shades.js")),
    ("/hub/words.js", SCRIPT, include_str!("page/words.js")),
    ("/hub/page.css", STYLE, include_str!("page/page.css")),
];

pub(super) fn page(path: &str) -> Option<Page> {
    web::among(FILES, path).or_else(|| web::page(path))
}
