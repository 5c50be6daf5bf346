//! Files that the pages of the agent, the controller and the hub share. They are in the binary and written as they are: no build step,
//! no framework, nothing from other hosts.

use crate::serve::site::Page;

/// A path, and what is there.
pub type File = (&'static str, &'static str, &'static str);

pub const HTML: &str = "text/html; charset=utf-8";
pub const SCRIPT: &str = "text/javascript; charset=utf-8";
pub const STYLE: &str = "text/css; charset=utf-8";

const FILES: &[File] = &[
    ("/web/style.css", STYLE, include_str!("web/style.css")),
    ("/web/dom.js", SCRIPT, include_str!("web/dom.js")),
    ("/web/format.js", SCRIPT, include_str!("web/format.js")),
    ("/web/grid.js", SCRIPT, include_str!("web/grid.js")),
    ("/web/stream.js", SCRIPT, include_str!("web/stream.js")),
    ("/web/plots.js", SCRIPT, include_str!("web/plots.js")),
    ("/web/results.js", SCRIPT, include_str!("web/results.js")),
    // Browsers ask for it beside a text such as /metrics too.
    ("/favicon.ico", "image/svg+xml", include_str!("web/icon.svg")),
    // https://github.com/leeoniya/uPlot 1.6.32, from the package `uplot` of npm.
    ("/web/uplot.css", STYLE, include_str!("web/uplot.css")),
    ("/web/uplot.js", SCRIPT, include_str!("web/uplot.js")),
    (
        "/web/uplot.LICENSE",
        "text/plain; charset=utf-8",
        include_str!("web/uplot.LICENSE"),
    ),
];

/// The file at a path.
pub fn page(path: &str) -> Option<Page> {
    among(FILES, path)
}

pub fn among(files: &[File], path: &str) -> Option<Page> {
    let (_, content_type, text) = files.iter().find(|(at, ..)| *at == path)?;
    Some(Page::new(content_type, text.as_bytes()))
}
