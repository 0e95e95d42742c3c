//! Chats and devices that use several charsets in one conversation.

use std::net::SocketAddr;

use encoding_rs::GBK;
use serde_json::Value;

use crate::harness::{Peer, Running, Tool};

/// The locale of a Chinese user, and one without a language.
const LOCALES: [&str; 2] = ["zh_CN.UTF-8", "C.UTF-8"];

/// Returns a chat on the loopback in the locale `C.UTF-8`, and where it is reached.
fn chat(arguments: &[&str]) -> (Running, SocketAddr) {
    chat_in("C.UTF-8", arguments)
}

fn chat_in(locale: &str, arguments: &[&str]) -> (Running, SocketAddr) {
    let chat = Tool::new("udp-chat").env("LC_ALL", locale).args(["--bind", "127.0.0.1:0"]);
    chat.args(arguments).spawn_listening()
}

fn gbk(text: &str) -> Vec<u8> {
    let (bytes, _, has_unmappable) = GBK.encode(text);
    assert!(!has_unmappable, "{text}");
    bytes.into_owned()
}

/// Returns the next line of stdout, which is JSON.
fn json(chat: &mut Running) -> Value {
    serde_json::from_str(&chat.line()).unwrap()
}

#[test]
fn a_chat_that_guesses_reads_a_gbk_chat_and_answers_it_in_gbk() {
    let short = ["你好", "再见", "好的", "温度 25℃"];
    let long = ["今天天气很好，我们一起去公园吧", "收到，请回复", "好的", "你好"];
    for (locale, texts) in [(LOCALES[0], short), (LOCALES[0], long), (LOCALES[1], long)] {
        let (mut fixed, there) = chat_in(locale, &["-e", "gbk"]);
        let (mut guessing, here) = chat_in(locale, &["-e", "auto", &there.to_string()]);
        // ASCII is the same in both.
        guessing.type_line("hi");
        assert_eq!(fixed.line(), format!("{here}\thi"));
        for text in texts {
            fixed.type_line(text);
            assert_eq!(guessing.line(), format!("{there}\t{text}"), "{locale}");
            guessing.type_line(&format!("{text}!"));
            assert_eq!(fixed.line(), format!("{here}\t{text}!"), "{locale}");
        }
        let finished = guessing.finish();
        assert_eq!(finished.code(), Some(0));
        let noted: Vec<_> = finished.err.lines().filter(|line| line.contains("speaks")).collect();
        assert_eq!(noted, [format!("udp-chat: {there} speaks gbk (a guess)")], "{locale}");
    }
}

#[test]
fn each_of_two_chats_that_guess_answers_in_the_charset_of_the_other() {
    for gbk_begins in [true, false] {
        let (mut chinese, first) = chat(&["-e", "auto:gbk"]);
        let (mut other, second) = chat_in(LOCALES[0], &["-e", "auto", &first.to_string()]);
        // To be named shows no charset.
        chinese.type_line(&format!("@{second}"));
        chinese.err_line_with(&format!("talking to {second}"));
        for (text, is_reply) in [("是", false), ("对", true), ("好", false), ("再见", true)] {
            let is_chinese = gbk_begins != is_reply;
            let (from, to, source) = if is_chinese {
                (&mut chinese, &mut other, first)
            } else {
                (&mut other, &mut chinese, second)
            };
            from.type_line(text);
            assert_eq!(to.line(), format!("{source}\t{text}"));
        }
        // Whoever begins shows its charset, and the other one answers in that.
        let noted = if gbk_begins { other.finish() } else { chinese.finish() };
        let charset = if gbk_begins {
            format!("{first} speaks gbk (a guess)\n")
        } else {
            format!("{second} speaks utf-8\n")
        };
        assert!(noted.err.contains(&charset), "{}", noted.err);
    }
}

#[test]
fn two_chats_that_begin_at_once_in_two_charsets_read_each_other() {
    let (mut one, first) = chat(&["-e", "auto:gbk"]);
    let (mut two, second) = chat_in(LOCALES[0], &["-e", "auto", &first.to_string()]);
    one.type_line(&format!("@{second}"));
    one.err_line_with("talking to");
    for text in ["你", "我", "他", "是", "的"] {
        one.type_line(text);
        two.type_line(text);
        assert_eq!(one.line(), format!("{second}\t{text}"));
        assert_eq!(two.line(), format!("{first}\t{text}"));
    }
}

#[test]
fn with_a_preferred_charset_the_shortest_texts_are_read_without_a_locale() {
    let device = Peer::new();
    let (mut chat, address) = chat(&["-e", "auto:gbk"]);
    for text in ["是", "好", "1号", "￥", "二", "℃", "é"] {
        device.send_to(&gbk(text), address).unwrap();
        assert_eq!(chat.line(), format!("{device}\t{text}"));
        chat.type_line(text);
        assert_eq!(device.receive(), gbk(text), "{text}");
    }
    let finished = chat.finish();
    assert!(!finished.err.contains("speaks"), "{}", finished.err);
}

#[test]
fn a_gbk_device_and_a_utf_8_one_are_each_answered_in_their_charset() {
    let (old, new) = (Peer::new(), Peer::new());
    let arguments = ["-e", "auto", &old.to_string(), &new.to_string()];
    let (mut chat, address) = chat_in("zh_CN.UTF-8", &arguments);
    // Neither has shown anything.
    chat.type_line("开始");
    assert_eq!([&old, &new].map(Peer::receive), ["开始".as_bytes(), "开始".as_bytes()]);
    old.send_to(&gbk("温度 25℃"), address).unwrap();
    assert_eq!(chat.line(), format!("{old}\t温度 25℃"));
    new.send_to("温度 26℃".as_bytes(), address).unwrap();
    assert_eq!(chat.line(), format!("{new}\t温度 26℃"));
    chat.err_line_with(&format!("{old} speaks gbk"));
    for (line, to_old, to_new) in [
        ("读数", Some("读数"), Some("读数")),
        ("@1 停止", Some("停止"), None),
        ("@2 停止", None, Some("停止")),
        (&format!("@{old} 继续"), Some("继续"), None),
        ("ok", Some("ok"), Some("ok")),
        ("完毕", Some("完毕"), Some("完毕")),
    ] {
        chat.type_line(line);
        if let Some(text) = to_old {
            assert_eq!(old.receive(), gbk(text), "{line}");
        }
        if let Some(text) = to_new {
            assert_eq!(new.receive(), text.as_bytes(), "{line}");
        }
    }
    assert_eq!(chat.finish().code(), Some(0));
}

#[test]
fn a_text_that_one_peer_s_charset_lacks_is_reported_with_that_peer_and_sent_to_the_others() {
    let (old, new) = (Peer::new(), Peer::new());
    let arguments = ["-e", "auto:gbk", &old.to_string(), &new.to_string()];
    let (mut chat, address) = chat(&arguments);
    new.send_to("好".as_bytes(), address).unwrap();
    assert_eq!(chat.line(), format!("{new}\t好"));
    chat.type_line("好 😀");
    assert_eq!(new.receive(), "好 😀".as_bytes());
    chat.err_line_with(&format!("cannot send line 1 to {old}: character 3, 😀 (U+1F600), is not in gbk"));
    chat.type_line("好");
    assert_eq!((old.receive(), new.receive()), (gbk("好"), "好".into()));
    assert_eq!(chat.finish().code(), Some(1));
}

#[test]
fn characters_that_the_charset_of_a_peer_lacks_are_handled_by_the_policy() {
    for (policy, sent) in [
        ("replace", "好?"),
        ("ignore", "好"),
        ("backslashreplace", r"好\U0001f600"),
        ("xmlcharrefreplace", "好&#128512;"),
    ] {
        let device = Peer::new();
        let (mut chat, address) = chat(&["-e", "auto:gbk", "--errors", policy]);
        device.send_to(&gbk("好"), address).unwrap();
        chat.line();
        chat.type_line("好😀");
        assert_eq!(GBK.decode(&device.receive()).0, sent, "{policy}");
        assert_eq!(chat.finish().code(), Some(0), "{policy}");
    }
}

#[test]
fn bytes_that_no_charset_reads_are_handled_by_the_policy() {
    const BYTES: &[u8] = b"a\xff\0\xfe";
    for (policy, shown) in [
        ("replace", Some("a\u{fffd}\0\u{fffd}")),
        ("ignore", Some("a\0")),
        ("backslashreplace", Some("a\\xff\0\\xfe")),
        ("strict", None),
    ] {
        let device = Peer::new();
        let (mut chat, address) = chat(&["-e", "auto", "--errors", policy]);
        device.send_to(BYTES, address).unwrap();
        device.send_to("对".as_bytes(), address).unwrap();
        if let Some(shown) = shown {
            assert_eq!(chat.line(), format!("{device}\t{shown}"), "{policy}");
        } else {
            chat.err_line_with(&format!("{device}: \\xff at byte 2 is not utf-8"));
        }
        assert_eq!(chat.line(), format!("{device}\t对"), "{policy}");
        assert_eq!(chat.finish().code(), Some(i32::from(shown.is_none())), "{policy}");
    }
}

#[test]
fn a_bot_reads_and_writes_text_in_json_and_each_peer_its_own_charset() {
    let (old, new) = (Peer::new(), Peer::new());
    let (mut bot, address) = chat_in("zh_CN.UTF-8", &["-e", "auto", "-f", "json"]);
    for (device, payload) in [(&old, gbk("你好")), (&new, "你好".into()), (&old, b"ok".to_vec())] {
        device.send_to(&payload, address).unwrap();
        let read = json(&mut bot);
        assert_eq!(read["from"], device.to_string());
        assert_eq!(read["size"], payload.len());
        let expected = if payload == b"ok" { "ok" } else { "你好" };
        assert_eq!(read["text"], expected, "{read}");
        bot.type_line(&format!(r#"{{"to":{},"text":"再见"}}"#, read["from"]));
    }
    assert_eq!(old.receive(), gbk("再见"));
    assert_eq!(old.receive(), gbk("再见"));
    assert_eq!(new.receive(), "再见".as_bytes());
    // What is written as bytes is sent as these.
    bot.type_line(&format!(r#"{{"to":"{old}","hex":"e4bda0 ff"}}"#));
    assert_eq!(old.receive(), b"\xe4\xbd\xa0\xff");
    bot.type_line(&format!(r#"{{"to":"{old}","base64":"xOM="}}"#));
    assert_eq!(old.receive(), gbk("你"));
    // A plain line goes to the first peer.
    bot.type_line(r#"{"text":"对"}"#);
    assert_eq!(old.receive(), gbk("对"));
    assert_eq!(bot.finish().code(), Some(0));
}

#[test]
fn a_bot_is_given_bytes_that_are_not_text_as_bytes_and_they_show_no_charset() {
    let device = Peer::new();
    let (mut bot, address) = chat_in("zh_CN.UTF-8", &["-e", "auto", "-f", "json"]);
    device.send_to(&gbk("你好"), address).unwrap();
    assert_eq!(json(&mut bot)["text"], "你好");
    // The last one is a euro sign in some charsets, and does not outweigh a conversation.
    for (payload, base64) in
        [(&b"\xff\0\xfe"[..], Some("/wD+")), (b"\xc4\0\xc4", Some("xADE")), (b"\x80", None)]
    {
        device.send_to(payload, address).unwrap();
        let read = json(&mut bot);
        assert_eq!(read.get("base64").and_then(Value::as_str), base64, "{read}");
        assert_eq!(read.get("text").is_none(), base64.is_some(), "{read}");
        bot.type_line(&format!(r#"{{"to":"{device}","text":"好"}}"#));
        assert_eq!(device.receive(), gbk("好"), "{payload:?}");
    }
}

#[test]
fn a_json_text_that_the_charset_of_its_peer_lacks_is_not_sent() {
    let device = Peer::new();
    let (mut bot, address) = chat(&["-e", "auto:gbk", "-f", "json"]);
    device.send_to(&gbk("好"), address).unwrap();
    bot.line();
    bot.type_line(&format!(r#"{{"to":"{device}","text":"😀"}}"#));
    bot.err_line_with("cannot send line 1: character 1, 😀 (U+1F600), is not in gbk");
    bot.type_line(&format!(r#"{{"to":"{device}","text":"好"}}"#));
    assert_eq!(device.receive(), gbk("好"));
    assert_eq!(bot.finish().code(), Some(1));
}
