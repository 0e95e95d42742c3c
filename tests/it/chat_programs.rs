//! A chat and the program that a course has its students write: a menu, one socket, and one datagram at a time.

use crate::harness::{Display, Running, Tool, free_port};

/// Its arguments are its port and its charset, which students write into the program.
const PROGRAM: &str = r"
import socket
import sys

port, charset = int(sys.argv[1]), sys.argv[2]
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(('', port))
while True:
    print('1: send')
    print('2: receive')
    print('0: quit')
    choice = input('choice: ')
    if choice == '1':
        text = input('text: ')
        address = input('address: ')
        to_port = int(input('port: '))
        s.sendto(text.encode(charset), (address, to_port))
    elif choice == '2':
        data, sender = s.recvfrom(1024)
        print('from %s:%d: %s' % (sender[0], sender[1], data.decode(charset)))
    elif choice == '0':
        break
    else:
        print('not a choice')
s.close()
";

/// Starts the program at a port that was free a moment ago, and returns that port too.
fn program(charset: &str) -> (Tool, u16) {
    let port = free_port();
    let program = Tool::other("python3").env("LC_ALL", "C.UTF-8");
    (program.args(["-c", PROGRAM, &port.to_string(), charset]), port)
}

fn chat(arguments: &[&str]) -> Tool {
    let chat = Tool::new("udp-chat").env("LC_ALL", "zh_CN.UTF-8").args(["--bind", "127.0.0.1:0"]);
    chat.args(arguments)
}

/// Returns what the program has printed about the next datagram.
fn received(program: &mut Running) -> String {
    loop {
        if let Some((_, datagram)) = program.line().split_once("from ") {
            return datagram.to_owned();
        }
    }
}

#[test]
#[ignore = "needs python3"]
fn a_program_with_a_menu_talks_to_a_chat_in_a_pipe_in_both_charsets() {
    for (charset, encoding) in [("utf-8", "auto"), ("gbk", "auto"), ("gbk", "gbk"), ("utf-8", "utf-8")] {
        let (program, port) = program(charset);
        let mut program = program.spawn();
        let there = format!("127.0.0.1:{port}");
        let (mut chat, address) = chat(&["-e", encoding]).spawn_listening();
        let port = address.port();
        // The line waits, for the chat does not know the program.
        chat.type_line("有人吗？");
        program.type_bytes(format!("1\n你好\n127.0.0.1\n{port}\n2\n").as_bytes());
        assert_eq!(chat.line(), format!("{there}\t你好"), "{charset} {encoding}");
        assert_eq!(received(&mut program), format!("{address}: 有人吗？"));
        program.type_line("2");
        chat.type_line("我在，再见");
        assert_eq!(received(&mut program), format!("{address}: 我在，再见"));
        program.type_bytes(format!("1\n再见\n127.0.0.1\n{port}\n3\n0\n").as_bytes());
        assert_eq!(chat.line(), format!("{there}\t再见"));
        let ended = program.finish();
        assert!(ended.status.success() && ended.text().contains("not a choice"), "{}", ended.err);
        // It has quit.
        chat.type_line("还在吗");
        chat.err_line_with(&format!("line 3 to {there}: port unreachable (nothing is listening there)"));
        assert_eq!(chat.finish().code(), Some(4));
    }
}

#[test]
#[ignore = "needs python3"]
fn people_at_two_terminals_talk_with_a_chat_and_a_program_with_a_menu() {
    for (charset, begins) in [("utf-8", true), ("gbk", false)] {
        let (program, port) = program(charset);
        let mut student = Display::running(program);
        student.await_edited("choice: ▏");
        let there = format!("127.0.0.1:{port}");
        let mut person = Display::running(chat(&["-e", "auto", &there]));
        person.await_edited(&format!("to {there}> ▏"));
        let here = format!("127.0.0.1:{}", person.bound_port());
        if begins {
            student.type_keys("2\r");
            person.type_keys("hello, 你好\r");
            student.await_row(&format!("from {here}: hello, 你好"));
            student.await_edited("choice: ▏");
        }
        for (keys, prompt) in
            [("1\r", "text: ▏"), ("今天天气很好\r", "address: ▏"), ("127.0.0.1\r", "port: ▏")]
        {
            student.type_keys(keys);
            student.await_edited(prompt);
        }
        student.type_keys(format!("{}\r", person.bound_port()));
        student.await_edited("choice: ▏");
        person.await_row(&format!("{there}: 今天天气很好"));
        // Nothing is received until the student chooses to.
        person.type_keys("收到\r");
        person.await_row("you: 收到");
        student.type_keys("2\r");
        student.await_row(&format!("from {here}: 收到"));
        student.await_edited("choice: ▏");
        student.type_keys("0\r");
        assert!(student.ended().success());
        person.type_keys("还在吗\r");
        person.await_row(&format!("* '还在吗' to {there}: port unreachable (nothing is listening there)"));
        person.type_keys("/quit\r");
        assert!(person.ended().success());
    }
}
