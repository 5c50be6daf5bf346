//! Texts and tones in a buffer, as the terminal can show them.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::{Color, Modifier, Style};
use unicode_width::UnicodeWidthStr as _;

use crate::command::top::config::{Colours, Look};
use crate::output::text::layout::cut;

/// Of the narrowest terminal.
pub const MIN_COLUMNS: u16 = 80;

/// What a text means. Colours are those of Okabe and Ito, which colour-blind people can tell apart, or the nearest of 16; a word
/// or a modifier always says the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tone {
    Plain,
    Bold,
    Heading,
    /// The first and the last line.
    Bar,
    BadBar,
    Selected,
    Good,
    Warning,
    Bad,
    Faint,
}

pub struct Canvas<'a> {
    buffer: &'a mut Buffer,
    look: Look,
}

impl<'a> Canvas<'a> {
    pub fn new(buffer: &'a mut Buffer, look: Look) -> Self {
        Self { buffer, look }
    }

    pub fn width(&self) -> u16 {
        self.buffer.area.width
    }

    fn style(&self, tone: Tone) -> Style {
        let colour = |many: u8, sixteen: Color| match self.look.colours {
            Colours::None => Style::new(),
            Colours::Sixteen => Style::new().fg(sixteen),
            Colours::Many => Style::new().fg(Color::Indexed(many)),
        };
        match tone {
            Tone::Plain => Style::new(),
            Tone::Bold => Style::new().add_modifier(Modifier::BOLD),
            Tone::Heading => Style::new().add_modifier(Modifier::BOLD | Modifier::UNDERLINED),
            Tone::Bar => Style::new().add_modifier(Modifier::REVERSED),
            Tone::BadBar => Style::new().add_modifier(Modifier::BOLD),
            Tone::Selected => Style::new().add_modifier(Modifier::REVERSED | Modifier::BOLD),
            Tone::Good => colour(74, Color::Cyan),
            Tone::Warning => colour(214, Color::Yellow),
            Tone::Bad => colour(166, Color::Red).add_modifier(Modifier::BOLD),
            Tone::Faint => Style::new().add_modifier(Modifier::DIM),
        }
    }

    /// Writes a text into at most `width` columns, cut if it is longer. Returns the column behind it.
    pub fn put(&mut self, x: u16, y: u16, width: u16, text: &str, tone: Tone) -> u16 {
        let text = cut(&self.shown(text), width.into(), self.ellipsis());
        let style = self.style(tone);
        self.buffer.set_stringn(x, y, text, width.into(), style).0
    }

    /// As [`Self::put`], at the right end of the columns.
    pub fn put_right(&mut self, x: u16, y: u16, width: u16, text: &str, tone: Tone) {
        let free = width.saturating_sub(self.length(text));
        self.put(x + free, y, width - free, text, tone);
    }

    pub fn fill(&mut self, area: Rect, tone: Tone) {
        self.buffer.set_style(area, self.style(tone));
    }

    /// Columns that a text takes.
    pub fn length(&self, text: &str) -> u16 {
        u16::try_from(self.shown(text).width()).unwrap_or(u16::MAX)
    }

    /// The text without what the terminal cannot show.
    fn shown(&self, text: &str) -> String {
        let is_unicode = self.look.is_unicode;
        let shown = |character: char| match character {
            _ if character.is_control() => "?".to_owned(),
            _ if is_unicode || character.is_ascii() => character.to_string(),
            'µ' => "u".to_owned(),
            '±' => "+-".to_owned(),
            '–' | '−' => "-".to_owned(),
            _ => "?".to_owned(),
        };
        text.chars().map(shown).collect()
    }

    pub fn ellipsis(&self) -> char {
        if self.look.is_unicode { '…' } else { '~' }
    }

    /// From low to high.
    pub fn levels(&self) -> [char; 8] {
        match self.look.is_unicode {
            true => ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'],
            false => ['_', '.', ',', '-', '=', '+', '*', '#'],
        }
    }

    /// A window without a reply.
    pub fn nothing(&self) -> char {
        if self.look.is_unicode { '×' } else { 'x' }
    }

    /// Of a band: its light and its dark part.
    pub fn shades(&self) -> [char; 2] {
        if self.look.is_unicode {
            ['░', '█']
        } else {
            [':', '#']
        }
    }

    pub fn marker(&self) -> char {
        if self.look.is_unicode { '▶' } else { '>' }
    }
}

/// Start and end of a text, with a sign for what is missing between.
pub fn cut_middle(text: &str, room: usize, sign: char) -> String {
    let number = text.chars().count();
    if number <= room {
        return text.to_owned();
    }
    let kept = room.saturating_sub(1);
    let (head, tail) = (kept.div_ceil(2), kept / 2);
    let head = text.chars().take(head);
    head.chain([sign]).chain(text.chars().skip(number - tail)).collect()
}
