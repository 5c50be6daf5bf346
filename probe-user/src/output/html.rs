//! Parts of a self-contained HTML page: no network, no script.

use std::fmt;
use std::io::{self, Write};

use crate::output::plot::colour_name;
use crate::output::text::layout::Grid;

pub const STYLE: &str = include_str!("page.css");

/// The page up to its heading.
pub fn begin(title: &str, heading: &str, out: &mut dyn Write) -> io::Result<()> {
    let (title, heading) = (text(title), text(heading));
    writeln!(
        out,
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>{title}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<main>\n<h1>{heading}</h1>"
    )
}

pub fn end(out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "</main>\n</body>\n</html>")
}

/// A plot with its caption; nothing without a plot.
pub fn figure(svg: Option<String>, title: &str, caption: &str, out: &mut dyn Write) -> io::Result<()> {
    let Some(svg) = svg else { return Ok(()) };
    let named = svg.replacen("<svg ", &format!("<svg aria-label=\"{}\" ", text(title)), 1);
    let (title, caption) = (text(title), text(caption));
    writeln!(
        out,
        "<figure>\n{named}\n<figcaption><b>{title}.</b> {caption}.</figcaption>\n</figure>"
    )
}

/// The key of a plot; `colour` is the CSS variable of each entry.
pub fn key(names: &[String], colour: impl Fn(usize) -> String, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "<ul class=\"key\">")?;
    for (place, name) in names.iter().enumerate() {
        let colour = colour(place);
        writeln!(out, "<li><i style=\"background:var({colour})\"></i>{}</li>", text(name))?;
    }
    writeln!(out, "</ul>")
}

/// A bar of parts with their key: text, colour and size of each.
pub fn figure_of_parts(title: &str, parts: &[(String, usize, u64)], out: &mut dyn Write) -> io::Result<()> {
    if parts.is_empty() {
        return Ok(());
    }
    let texts: Vec<_> = parts.iter().map(|(text, ..)| text.as_str()).collect();
    let label = text(&texts.join(", ")).to_string();
    writeln!(out, "<figure>\n<div class=\"bar\" role=\"img\" aria-label=\"{label}\">")?;
    for (_, colour, size) in parts {
        write!(
            out,
            "<i style=\"flex-grow:{size};background:var({})\"></i>",
            colour_name(*colour)
        )?;
    }
    writeln!(out, "</div>")?;
    let names: Vec<String> = parts.iter().map(|(text, ..)| text.clone()).collect();
    key(&names, |place| colour_name(parts[place].1), out)?;
    writeln!(out, "<figcaption><b>{}.</b></figcaption>\n</figure>", text(title))
}

pub fn table(grid: Grid, caption: &str, out: &mut dyn Write) -> io::Result<()> {
    let caption = text(caption).to_string();
    writeln!(
        out,
        "<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"{caption}\"><table><caption>{caption}</caption>"
    )?;
    let headings = grid.columns.iter().map(|column| match column.of {
        "" => column.heading.to_owned(),
        of => format!("{of} {}", column.heading),
    });
    let class = |place: usize| match grid.columns.get(place.wrapping_sub(1)) {
        Some(column) if !column.numbers => " class=\"words\"",
        _ => "",
    };
    let row = |cells: Vec<String>, kind: &str| {
        let cell = |(place, cell): (usize, &String)| format!("<{kind}{}>{}</{kind}>", class(place), text(cell));
        format!("<tr>{}</tr>", cells.iter().enumerate().map(cell).collect::<String>())
    };
    let first = std::iter::once(grid.heading.to_owned()).chain(headings).collect();
    writeln!(out, "<thead>{}</thead><tbody>", row(first, "th"))?;
    for (place, who) in grid.who.iter().enumerate() {
        let cells = grid.columns.iter().map(|column| column.cells[place].clone());
        let cells = std::iter::once(who.address.clone()).chain(cells).collect();
        writeln!(out, "{}", row(cells, "td"))?;
    }
    writeln!(out, "</tbody></table></div>")
}

/// Escapes text for HTML: a peer chooses its name.
pub fn text(text: &str) -> impl fmt::Display {
    fmt::from_fn(move |f| {
        text.chars().try_for_each(|character| match character {
            '&' => f.write_str("&amp;"),
            '<' => f.write_str("&lt;"),
            '>' => f.write_str("&gt;"),
            '"' => f.write_str("&quot;"),
            other => write!(f, "{other}"),
        })
    })
}
