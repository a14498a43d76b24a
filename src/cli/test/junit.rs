//! Formats the results as JUnit XML, which CI systems show.

use std::fmt::Write as _;

use super::CaseResult;

/// Formats a JUnit file: one suite with a test case for each folder.
pub(super) fn text(suite: &str, results: &[CaseResult]) -> String {
    let failures = results.iter().filter(|result| result.failure.is_some()).count();
    let seconds: f64 = results.iter().map(|result| result.elapsed.as_secs_f64()).sum();
    let suite = escaped(suite);
    let head =
        format!(r#"name="{suite}" tests="{}" failures="{failures}" errors="0" time="{seconds:.3}""#, results.len());
    let mut text = format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites {head}>\n  <testsuite {head}>\n");
    for result in results {
        let (name, seconds) = (escaped(&result.name), result.elapsed.as_secs_f64());
        let _ = write!(text, r#"    <testcase classname="{suite}" name="{name}" time="{seconds:.3}""#);
        match &result.failure {
            None => text.push_str("/>\n"),
            Some(failure) => {
                let failure = anstream::adapter::strip_str(failure).to_string();
                let first = escaped(failure.lines().next().unwrap_or_default());
                let _ = write!(
                    text,
                    ">\n      <failure message=\"{first}\">{}</failure>\n    </testcase>\n",
                    escaped(&failure)
                );
            }
        }
    }
    text.push_str("  </testsuite>\n</testsuites>\n");
    text
}

/// Escapes a text for an XML attribute or element. Characters that XML 1.0 does not allow become U+FFFD.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\t' | '\n' | '\r' => _ = write!(escaped, "&#{};", u32::from(c)),
            '\0'..='\u{1f}' | '\u{fffe}' | '\u{ffff}' => escaped.push('\u{fffd}'),
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_file_is_valid_xml_with_the_original_texts() {
        let nasty = "first \"line\" <a> & ]]>\n\u{1b}[31m- x: '\u{7}\u{fffe}'\u{1b}[0m\r\n\t\u{1F600}";
        let results = [
            CaseResult { name: "a/\"b\" & <c>".into(), elapsed: Duration::from_millis(1500), failure: None },
            CaseResult { name: "d".into(), elapsed: Duration::from_millis(2), failure: Some(nasty.into()) },
        ];
        let text = text("ca<ses", &results);
        let document = roxmltree::Document::parse(&text).unwrap();
        let suite = document.root_element().first_element_child().unwrap();
        let attribute = |name| suite.attribute(name).unwrap();
        assert_eq!(
            [attribute("name"), attribute("tests"), attribute("failures"), attribute("time")],
            ["ca<ses", "2", "1", "1.502"]
        );
        let cases: Vec<_> = suite.children().filter(roxmltree::Node::is_element).collect();
        assert_eq!(cases[0].attribute("name"), Some("a/\"b\" & <c>"));
        assert!(!cases[0].has_children());
        let failure = cases[1].first_element_child().unwrap();
        assert_eq!(failure.attribute("message"), Some("first \"line\" <a> & ]]>"));
        let shown = "first \"line\" <a> & ]]>\n- x: '\u{fffd}'\r\n\t\u{1F600}";
        assert_eq!(failure.text(), Some(shown));
        assert_eq!(escaped("a\u{7}b"), "a\u{fffd}b");
    }
}
