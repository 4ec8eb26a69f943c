//! A table that fits: columns have a rank, and the least important ones leave until the rest has room. What then
//! still is too wide is cut in the column that may be cut.

use unicode_width::UnicodeWidthStr;

use super::style::{Style, Tone};

/// A column.
#[derive(Debug, Clone, Copy)]
pub struct Column {
    /// Its heading.
    pub title: &'static str,
    /// 0 always stays; the highest leaves first.
    pub rank: u8,
    /// Numbers stand at the right.
    pub right: bool,
}

/// A cell: text and what it stands for.
#[derive(Debug, Clone)]
pub struct Cell {
    /// One line of text.
    pub text: String,
    /// How to colour it.
    pub tone: Option<Tone>,
}

impl<T: Into<String>> From<T> for Cell {
    fn from(text: T) -> Cell {
        Cell { text: text.into(), tone: None }
    }
}

impl Cell {
    /// A cell with a meaning.
    pub fn tone(tone: Tone, text: impl Into<String>) -> Cell {
        Cell { text: text.into(), tone: Some(tone) }
    }
}

const GAP: usize = 2;
/// How much of the last column is worth more than another column.
const CUTTABLE_MIN: usize = 20;

/// Lays the rows out, the heading first. Rows may be shorter than the columns. The last column that stays takes
/// what is left of the width and is cut with `…`.
pub fn render(columns: &[Column], rows: &[Vec<Cell>], style: Style) -> String {
    let widths: Vec<usize> = columns
        .iter()
        .enumerate()
        .map(|(at, column)| {
            let cells = rows.iter().filter_map(|row| row.get(at)).map(|cell| cell.text.width());
            cells.max().filter(|width| *width > 0).map_or(0, |width| width.max(column.title.width()))
        })
        .collect();
    let shown = fitting(columns, &widths, style.width);
    let mut text = line(&shown, columns, &widths, style, |at| Cell::tone(Tone::Dim, columns[at].title));
    for row in rows {
        text.push_str(&line(&shown, columns, &widths, style, |at| row.get(at).cloned().unwrap_or("".into())));
    }
    text
}

/// The rows alone, each cut to the width.
pub fn rows(rows: &[Vec<Cell>], style: Style) -> String {
    const PLAIN: Column = Column { title: "", rank: 0, right: false };
    let count = rows.iter().map(Vec::len).max().unwrap_or_default();
    let text = render(&vec![PLAIN; count], rows, style);
    text.split_once('\n').map(|(_, rows)| rows.to_owned()).unwrap_or_default()
}

/// Which columns stay. Empty ones leave first, then by rank until the sum fits; the last one counts with at most
/// [`CUTTABLE_MIN`], because it can be cut.
fn fitting(columns: &[Column], widths: &[usize], room: Option<usize>) -> Vec<usize> {
    let mut shown: Vec<usize> = (0..columns.len()).filter(|at| widths[*at] > 0).collect();
    let Some(room) = room else { return shown };
    loop {
        let last = shown.last().copied();
        let sum: usize = shown
            .iter()
            .map(|at| GAP + if Some(*at) == last { widths[*at].min(CUTTABLE_MIN) } else { widths[*at] })
            .sum();
        let weakest =
            shown.iter().copied().filter(|at| columns[*at].rank > 0).max_by_key(|at| columns[*at].rank);
        match weakest {
            Some(weakest) if sum > room + GAP => shown.retain(|at| *at != weakest),
            _ => return shown,
        }
    }
}

fn line(
    shown: &[usize],
    columns: &[Column],
    widths: &[usize],
    style: Style,
    cell: impl Fn(usize) -> Cell,
) -> String {
    let mut line = String::new();
    let mut used = 0;
    for (nth, at) in shown.iter().enumerate() {
        let last = nth + 1 == shown.len();
        let Cell { mut text, tone } = cell(*at);
        if let (true, Some(room)) = (last, style.width) {
            text = cut(&text, room.saturating_sub(used).max(8));
        }
        let pad = widths[*at].saturating_sub(text.width());
        let painted = tone.map_or_else(|| text.clone(), |tone| style.paint(tone, &text));
        if columns[*at].right {
            line.push_str(&" ".repeat(pad));
            line.push_str(&painted);
        } else {
            line.push_str(&painted);
            line.push_str(&" ".repeat(if last { 0 } else { pad }));
        }
        if !last {
            line.push_str(&" ".repeat(GAP));
        }
        used += widths[*at] + GAP;
    }
    line.truncate(line.trim_end().len());
    line.push('\n');
    line
}

/// The text in at most `room` columns, with `…` for what is left out.
pub fn cut(text: &str, room: usize) -> String {
    if text.width() <= room {
        return text.to_owned();
    }
    let mut kept = String::new();
    for character in text.chars() {
        kept.push(character);
        if kept.width() >= room {
            kept.pop();
            break;
        }
    }
    kept.push('…');
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    const COLUMNS: [Column; 3] = [
        Column { title: "NAME", rank: 0, right: false },
        Column { title: "MEM", rank: 2, right: true },
        Column { title: "NOTE", rank: 0, right: false },
    ];

    fn rendered(width: Option<usize>) -> String {
        let rows = vec![
            vec!["api".into(), "12 MB".into(), "all is well".into()],
            vec!["storefront".into(), "1.1 GB".into(), "exit 1: cannot find the module that it wants".into()],
        ];
        render(&COLUMNS, &rows, Style { colours: false, width })
    }

    #[test]
    fn a_table_without_a_width_shows_everything() {
        assert_eq!(
            rendered(None),
            "NAME           MEM  NOTE\n\
             api          12 MB  all is well\n\
             storefront  1.1 GB  exit 1: cannot find the module that it wants\n"
        );
    }

    #[test]
    fn columns_leave_by_rank_and_the_last_one_is_cut() {
        assert_eq!(
            rendered(Some(38)),
            "NAME        NOTE\n\
             api         all is well\n\
             storefront  exit 1: cannot find the m…\n"
        );
    }
}
