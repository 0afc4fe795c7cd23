//! Tables for people, as `-w table` prints them: box lines, upper-case heads, cells to the right.

/// The table as text, without a newline at its end.
pub(crate) fn render(head: &[&str], rows: &[Vec<String>]) -> String {
    let width = |column: usize| {
        let cells = rows
            .iter()
            .filter_map(|row| row.get(column))
            .map(|cell| cell.chars().count());
        cells.max().unwrap_or(0).max(head[column].chars().count())
    };
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let line = |left: &str, middle: &str, right: &str| {
        let bars: Vec<String> = widths.iter().map(|width| "─".repeat(width + 2)).collect();
        format!("{left}{}{right}\n", bars.join(middle))
    };
    let mut out = line("┌", "┬", "┐");
    let heads: Vec<String> = head
        .iter()
        .zip(&widths)
        .map(|(cell, width)| format!(" {:^width$} ", cell.to_uppercase().replace('_', " ")))
        .collect();
    out.push_str(&format!("│{}│\n", heads.join("│")));
    out.push_str(&line("├", "┼", "┤"));
    for row in rows {
        let cells: Vec<String> = row
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!(" {cell:>width$} "))
            .collect();
        out.push_str(&format!("│{}│\n", cells.join("│")));
    }
    out.push_str(line("└", "┴", "┘").trim_end());
    out
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_table() {
        let rows = [vec![
            "127.0.0.1:23791".to_string(),
            "true".to_string(),
            String::new(),
        ]];
        let expected = "\
┌─────────────────┬────────┬───────┐
│    ENDPOINT     │ HEALTH │ ERROR │
├─────────────────┼────────┼───────┤
│ 127.0.0.1:23791 │   true │       │
└─────────────────┴────────┴───────┘";
        assert_eq!(super::render(&["endpoint", "health", "error"], &rows), expected);
    }
}
