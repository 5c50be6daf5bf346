use super::*;

fn written(columns: Option<usize>) -> String {
    let column = |of, heading, gives_way| Column {
        of,
        heading,
        numbers: gives_way > 0,
        gives_way,
        cells: vec!["12 ms".to_owned(), "3 ms".to_owned()],
    };
    let grid = Grid {
        heading: "peer",
        who: vec![
            Who {
                address: "fe80::1".to_owned(),
                name: Some("a-host-with-a-long-name".to_owned()),
            },
            Who {
                address: String::new(),
                name: None,
            },
        ],
        columns: vec![
            column("", "path", 0),
            column("RTT", "min", 1),
            column("RTT", "mean", 3),
            column("RTT", "p50", 2),
        ],
    };
    let mut out = Vec::new();
    grid.write(columns, &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

#[test]
fn columns_are_removed_before_anything_wraps() {
    let whole = " peer                             path   RTT min   mean    p50\n \
                 fe80::1 a-host-with-a-long-name  12 ms    12 ms  12 ms  12 ms\n                                  \
                 3 ms      3 ms   3 ms   3 ms\n";
    let table = [
        (None, whole),
        (Some(62), whole),
        (
            Some(61),
            " peer                            path   RTT min   mean    p50\n \
             fe80::1 a-host-with-a-long-na…  12 ms    12 ms  12 ms  12 ms\n                                 \
             3 ms      3 ms   3 ms   3 ms\n",
        ),
        (
            Some(46),
            " peer                    path   RTT min    p50\n \
             fe80::1 a-host-with-a…  12 ms    12 ms  12 ms\n                         \
             3 ms      3 ms   3 ms\n",
        ),
        (
            Some(24),
            " peer              path\n fe80::1 a-host-…  12 ms\n                   3 ms\n",
        ),
        (
            Some(20),
            " peer          path\n fe80::1 a-h…  12 ms\n               3 ms\n",
        ),
        (Some(5), " peer     path\n fe80::1  12 ms\n          3 ms\n"),
    ];
    for (columns, expected) in table {
        assert_eq!(written(columns), expected, "{columns:?}\n{}", written(columns));
    }
}

#[test]
fn no_line_is_wider_than_the_terminal() {
    for columns in 16..80 {
        for line in written(Some(columns)).lines() {
            assert!(line.width() <= columns, "{columns}: {line}");
        }
    }
}

#[test]
fn the_leftmost_column_names_the_statistic() {
    assert!(written(Some(60)).contains("RTT min"));
    let grid = Grid {
        heading: "peer",
        who: vec![],
        columns: vec![Column {
            of: "RTT",
            heading: "p99",
            numbers: true,
            gives_way: 0,
            cells: vec![],
        }],
    };
    assert_eq!(grid.headings(), ["RTT p99"]);
}

#[test]
fn wide_characters_count_twice() {
    assert_eq!(cut("東京東京", 8, '…'), "東京東京");
    assert_eq!(cut("東京東京", 7, '…'), "東京東…");
    assert_eq!(cut("東京東京", 6, '…'), "東京…");
}
