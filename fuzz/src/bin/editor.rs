//! `editor`: what is typed is edited, and fits into a row of any width.

#![no_main]

use udp_tools::runtime::console::editor::{Editor, Event};
use udp_tools_fuzz::assert_harmless;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let Some((columns, typed)) = data.split_first() else { return };
    let columns = usize::from(*columns);
    let mut editor = Editor::new();
    for piece in typed.split_inclusive(|byte| *byte == b'\t') {
        editor.push(piece);
        while let Some(event) = editor.next() {
            if event == Event::Complete {
                editor.complete(editor.cursor() / 2, &["你好".to_owned(), "你们".to_owned()]);
            }
        }
        assert!(editor.text().is_char_boundary(editor.cursor()));
        let view = editor.view("to 你好> ", columns);
        assert!(view.cursor < if columns == 0 { 80 } else { columns });
        assert_harmless(view.text.as_bytes(), 0);
        assert!(!view.text.contains('\t'));
    }
});
