//! The fenced blocks of a Markdown text.

/// The comment before a block that quotes a whole file.
const FILE: &str = "<!-- file: ";

/// A fenced block.
#[derive(Clone)]
pub(crate) struct Block {
    /// the number of its first line, from 1
    pub(crate) line: usize,
    /// the language
    pub(crate) language: String,
    /// the words after the language, such as `exit=1`
    pub(crate) flags: String,
    /// the file that it quotes
    pub(crate) file: Option<String>,
    /// its text, each line with its end
    pub(crate) text: String,
}

/// Returns the document with the text of each block replaced by what `rewrite` returns for it.
pub(crate) fn rewritten(name: &str, document: &str, mut rewrite: impl FnMut(&Block) -> String) -> String {
    let mut result = String::new();
    let mut lines = document.lines().enumerate();
    let mut file = None;
    while let Some((index, line)) = lines.next() {
        result.extend([line, "\n"]);
        assert!(
            !line.starts_with([' ', '\t']) || !line.trim_start().starts_with("```"),
            "{name}:{}: an indented block",
            index + 1
        );
        let Some(info) = line.strip_prefix("```") else {
            if !line.is_empty() {
                file = line.strip_prefix(FILE).and_then(|rest| rest.strip_suffix(" -->")).map(str::to_owned);
            }
            continue;
        };
        let (language, flags) = info.split_once(' ').unwrap_or((info, ""));
        let body = lines.by_ref().map(|(_, line)| line).take_while(|line| !line.starts_with("```"));
        let text = body.fold(String::new(), |text, line| text + line + "\n");
        let block =
            Block { line: index + 2, language: language.to_owned(), flags: flags.to_owned(), file: file.take(), text };
        result += &rewrite(&block);
        result += "```\n";
    }
    result
}

/// All blocks of a document.
pub(crate) fn of(name: &str, document: &str) -> Vec<Block> {
    let mut found = Vec::new();
    rewritten(name, document, |block| {
        found.push(block.clone());
        String::new()
    });
    found
}

/// The text of a document outside of its blocks.
pub(crate) fn prose(name: &str, document: &str) -> String {
    rewritten(name, document, |_| String::new())
}
