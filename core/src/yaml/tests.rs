//! Places, limits and refusals, and that no text whatever makes the reader panic.

use proptest::prelude::*;

use super::manifest::configurations;
use super::*;

fn problems(text: &str) -> Vec<String> {
    parse(text, Bounds::DETAILS)
        .problems
        .iter()
        .map(ToString::to_string)
        .collect()
}

fn only(text: &str) -> Node {
    let parsed = parse(text, Bounds::DETAILS);
    assert_eq!(parsed.problems, []);
    let [node] = <[Node; 1]>::try_from(parsed.documents).unwrap();
    node
}

#[test]
fn every_node_knows_its_place() {
    let node = only("# a comment\na: ä\nbc:\n  - d\n  -  \"e\"\nf: {g: 'h'}\n");
    let at = |line, column| Position { line, column };
    assert_eq!(node.at, at(2, 1));
    assert_eq!(node.get("a").unwrap().at, at(2, 4));
    let list = node.get("bc").unwrap().elements().unwrap();
    assert_eq!((list[0].at, list[1].at), (at(4, 5), at(5, 6)));
    assert_eq!(node.get("f").unwrap().get("g").unwrap().at, at(6, 8));
    let Kind::Mapping(entries) = &node.kind else {
        panic!()
    };
    assert_eq!((entries[1].key.as_str(), entries[1].at), ("bc", at(3, 1)));
}

#[test]
fn styles_and_types_are_told_apart() {
    let node =
        only("[a, 'b', \"c\", 1, 0x1F, 1e3, -.5, .inf, true, null, ~, '1', 1.2.3, 3.1.1, e5, 1h]");
    let elements = node.elements().unwrap();
    let numbers: Vec<_> = elements.iter().filter_map(Node::number).collect();
    assert_eq!(numbers, ["1", "0x1F", "1e3", "-.5", ".inf"]);
    assert_eq!(elements.iter().filter(|n| n.is_null()).count(), 2);
    assert_eq!(
        elements
            .iter()
            .filter_map(Node::boolean)
            .collect::<Vec<_>>(),
        [true]
    );
    let style = |n: &Node| match n.kind {
        Kind::Scalar { style, .. } => Some(style),
        _ => None,
    };
    assert_eq!(
        (style(&elements[0]), style(&elements[1])),
        (Some(Style::Plain), Some(Style::Quoted))
    );
    let blocks = only("a: |\n  x\nb: >\n  y\n  z\n");
    assert_eq!(style(blocks.get("a").unwrap()), Some(Style::Literal));
    assert_eq!(blocks.get("b").unwrap().text(), Some("y z\n"));
}

#[test]
fn sixty_four_kib_are_accepted_and_not_a_byte_more() {
    let mut text = "a: 'x'\n".to_owned();
    text.extend(std::iter::repeat_n('#', 65_536 - text.len()));
    assert_eq!(problems(&text), Vec::<String>::new());
    text.push('#');
    assert_eq!(
        problems(&text),
        ["line 2, column 65530: the text has 65537 bytes; allowed are 65536"]
    );
}

#[test]
fn sixteen_levels_are_accepted_and_not_one_more() {
    let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    assert_eq!(problems(&nested(16)), Vec::<String>::new());
    let limit = "lists and maps are nested deeper than 16, which is the limit";
    assert_eq!(
        problems(&nested(17)),
        [format!("line 1, column 17: {limit}")]
    );
    assert_eq!(
        problems(&"[".repeat(60_000)),
        [format!("line 1, column 256: {limit}")]
    );
    assert_eq!(
        problems(&"{a: ".repeat(15_000)),
        [format!("line 1, column 1021: {limit}")]
    );
    assert_eq!(
        problems(&"- ".repeat(30_000)),
        [format!("line 1, column 33: {limit}")]
    );
}

#[test]
fn a_yaml_bomb_is_refused_at_its_first_anchor() {
    let mut bomb = "a: &a [x, x, x, x, x, x, x, x, x]\n".to_owned();
    for (this, last) in ('b'..='i').zip('a'..='h') {
        bomb += &format!(
            "{this}: &{this} [*{last}, *{last}, *{last}, *{last}, *{last}, *{last}, *{last}]\n"
        );
    }
    let problems = problems(&bomb);
    assert_eq!(
        problems[0],
        "line 1, column 4: anchors (`&name`) are not allowed; write the value out"
    );
    assert_eq!(
        problems[2],
        "line 2, column 8: aliases (`*name`) are not allowed; write the value out"
    );
    assert_eq!(problems.len(), 9 + 8 * 7);
}

#[test]
fn what_yaml_allows_and_we_do_not_is_refused_at_its_place() {
    for (text, expected) in [
        (
            "a: 1\nb: 2\n\"a\": 3",
            "line 3, column 1: the key `a` stands there twice, first in line 1",
        ),
        (
            "a:\n  b: 1\n  b: 2",
            "line 3, column 3: the key `b` stands there twice, first in line 2",
        ),
        (
            "a: !!str x",
            "line 1, column 4: tags (`!name`) are not allowed; leave it out",
        ),
        (
            "<<: {a: 1}",
            "line 1, column 1: merge keys (`<<`) are not allowed; write the entries out",
        ),
        (
            "a: 1\n---\nb: 2",
            "line 2, column 1: a second document starts here; allowed is one",
        ),
        (
            "? [a]\n: b",
            "line 1, column 3: a key is a word, not a list, a map or an alias",
        ),
        (": b", "line 1, column 1: a key is missing before the `:`"),
    ] {
        assert_eq!(problems(text), [expected], "{text}");
    }
}

#[test]
fn broken_yaml_is_refused_at_its_place() {
    for (text, place) in [
        ("a: 'x", (1, 4)),
        ("a: [1, 2\nb: 3", (2, 2)),
        ("a:\n  b: 1\n c: 2", (3, 2)),
        ("a: @x", (1, 4)),
    ] {
        let parsed = parse(text, Bounds::DETAILS);
        let [problem] = parsed.problems.as_slice() else {
            panic!("{text}: {:?}", parsed.problems)
        };
        assert_eq!(
            (problem.at.line, problem.at.column),
            place,
            "{text}: {problem}"
        );
        assert!(
            problem.message.starts_with("this is not YAML: "),
            "{problem}"
        );
    }
}

#[test]
fn a_byte_order_mark_and_carriage_returns_do_not_matter() {
    let node = only("\u{feff}a: b\r\nc: d\r\n");
    assert_eq!(node.get("c").unwrap().at, Position { line: 2, column: 4 });
    assert_eq!(node.get("c").unwrap().text(), Some("d"));
}

const MANIFESTS: &str = r#"apiVersion: v1
kind: Service
---
apiVersion: akri.sh/v0
kind: Configuration
metadata:
  name: literal
  namespace: plant
spec:
  discoveryHandler:
    name: mqtt
    discoveryDetails: |+

      serverUrls:
        - tcp://a

---
apiVersion: v1
kind: List
items:
  - apiVersion: akri.sh/v0
    kind: Configuration
    metadata: {name: folded}
    spec:
      discoveryHandler:
        discoveryDetails: >-
          serverUrls: [tcp://a]
  - apiVersion: akri.sh/v0
    kind: Configuration
    metadata: {name: quoted}
    spec: {discoveryHandler: {discoveryDetails: "serverUrls: [tcp://a]\ntopics: [a]"}}
  - apiVersion: other/v1
    kind: Configuration
---
apiVersion: akri.sh/v0
kind: Configuration
"#;

#[test]
fn faults_inside_a_literal_block_get_the_place_in_the_file() {
    let found = configurations(MANIFESTS).unwrap();
    let names: Vec<_> = found.iter().map(|m| m.name.as_deref()).collect();
    assert_eq!(
        names,
        [Some("literal"), Some("folded"), Some("quoted"), None]
    );
    assert_eq!(found[0].namespace.as_deref(), Some("plant"));
    let details = found[0].details.as_ref().unwrap();
    assert_eq!(details.text, "\nserverUrls:\n  - tcp://a\n\n");
    // In the text the URL stands in line 3, column 5.
    let url = details.text.lines().nth(2).unwrap().find("tcp").unwrap() + 1;
    assert_eq!(url, 5);
    assert_eq!(
        details.place(3, 5),
        Position {
            line: 15,
            column: 11
        }
    );
    assert_eq!(MANIFESTS.lines().nth(14).unwrap().find("tcp"), Some(10));
    assert_eq!(
        details.place(2, 1),
        Position {
            line: 14,
            column: 7
        }
    );
    assert_eq!(
        details.place(99, 1).line,
        16,
        "beyond the end is at the end"
    );
    let folded = found[1].details.as_ref().unwrap();
    assert_eq!(folded.place(1, 14), folded.at);
    let quoted = found[2].details.as_ref().unwrap();
    assert_eq!(
        quoted.place(2, 1),
        Position {
            line: 31,
            column: 49
        }
    );
    assert!(found[3].details.is_none());
}

#[test]
fn a_file_that_is_no_yaml_says_where() {
    let problems = configurations("kind: Configuration\na: 'x").unwrap_err();
    assert_eq!(problems[0].at, Position { line: 2, column: 4 });
}

/// Texts that look like YAML often enough to get far.
fn yamlish() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "a",
        "b: ",
        "\n",
        "  ",
        "- ",
        "[",
        "]",
        "{",
        "}",
        ", ",
        ": ",
        "? ",
        "|",
        ">",
        "|2-\n",
        "'",
        "\"",
        "&x ",
        "*x",
        "!t ",
        "<<",
        "# c\n",
        "---\n",
        "...\n",
        "\t",
        "\r\n",
        "ä",
        "\u{feff}",
        "\u{2028}",
        "%YAML 1.2\n",
        "\\u12",
        "0",
        "~",
        "@",
        "`",
        "\0",
        "\u{85}",
    ]);
    prop::collection::vec(piece, 0..60).prop_map(|pieces| pieces.concat())
}

fn within(text: &str, at: Position) -> bool {
    at.line >= 1
        && at.column >= 1
        && usize::try_from(at.line).unwrap()
            <= text
                .chars()
                .filter(|c| "\r\n\u{85}\u{2028}\u{2029}".contains(*c))
                .count()
                + 2
}

proptest! {
    #[test]
    fn no_text_makes_it_panic(text in prop_oneof![yamlish(), any::<String>()]) {
        let parsed = parse(&text, Bounds::DETAILS);
        prop_assert!(parsed.problems.iter().all(|p| within(&text, p.at)), "{:?} {:?}", text, parsed.problems);
        for manifest in configurations(&text).into_iter().flatten() {
            let _ = manifest.details.map(|d| d.place(1, 1));
        }
    }

    #[test]
    fn no_literal_block_makes_the_places_wrong(content in "[ -~\n]{0,80}", line in 1_u32..9) {
        let block: String = content.lines().map(|l| format!("        {l}\n")).collect();
        let file = format!("kind: Configuration\napiVersion: akri.sh/v0\nspec:\n  discoveryHandler:\n    discoveryDetails: |\n{block}");
        for details in configurations(&file).into_iter().flatten().filter_map(|m| m.details) {
            let place = details.place(line, 1);
            let index = usize::try_from(place.line).unwrap() - 1;
            let there: String = file.lines().nth(index).unwrap_or_default().chars().skip(usize::try_from(place.column).unwrap() - 1).collect();
            if let Some(said) = details.text.lines().nth(usize::try_from(line).unwrap() - 1) {
                prop_assert_eq!(there, said, "{:?}", file);
            }
        }
    }

    #[test]
    fn json_and_yaml_give_the_same_nodes(text in "[ -~äö\u{1f600}]{0,20}", number in any::<i64>(), flag in any::<bool>()) {
        let json = serde_json::json!({"a": [text, number, flag, null], "b": {"c": text}});
        let mut node = only(&json.to_string());
        fn forget(node: &mut Node) {
            node.at = Position::default();
            match &mut node.kind {
                Kind::Sequence(nodes) => nodes.iter_mut().for_each(forget),
                Kind::Mapping(entries) => entries.iter_mut().for_each(|e| {
                    e.at = Position::default();
                    forget(&mut e.value);
                }),
                Kind::Scalar { text, style } if text == "null" && *style == Style::Plain => text.clear(),
                _ => {}
            }
        }
        forget(&mut node);
        prop_assert_eq!(node, Node::from_json(&json));
    }
}
