//! Lines that somebody types at a prompt, or that come from a pipe.
//!
//! Reading a terminal blocks, so it is done on a thread of its own, which ends with the process. It reads ahead a few
//! lines only, so that a long pipe waits for what is done with it.

use std::io::{self, BufRead, IsTerminal};
use std::thread;

use rustyline::error::ReadlineError;
use tokio::sync::mpsc;

use crate::console;

/// What comes from a prompt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Line {
    /// A line, without its end.
    Text(String),
    /// The input is at its end: Ctrl-D, or a pipe's end.
    End,
    /// Ctrl-C at the prompt. (Where there is no prompt, Ctrl-C is a signal.)
    Interrupt,
}

/// Reads lines from the terminal, with editing and a history, or from a pipe.
#[derive(Debug)]
pub struct Prompt {
    lines: mpsc::Receiver<Line>,
    interactive: bool,
}

impl Prompt {
    /// Whether somebody can type.
    pub fn is_terminal() -> bool {
        io::stdin().is_terminal() && io::stdout().is_terminal()
    }

    /// Opens it. On a terminal, `text` is shown before what is typed; a pipe is read silently.
    pub fn open(text: &str) -> Self {
        let (sender, lines) = mpsc::channel(16);
        let interactive = Self::is_terminal();
        let text = text.to_owned();
        thread::spawn(move || if interactive { type_lines(&text, &sender) } else { pipe_lines(&sender) });
        Self { lines, interactive }
    }

    /// Whether it is a terminal.
    pub fn interactive(&self) -> bool {
        self.interactive
    }

    /// The next line. After [`Line::End`] and [`Line::Interrupt`] there is no other. Cancel-safe.
    pub async fn next(&mut self) -> Line {
        self.lines.recv().await.unwrap_or(Line::End)
    }
}

fn type_lines(text: &str, to: &mpsc::Sender<Line>) {
    console::remember();
    let Ok(mut editor) = rustyline::DefaultEditor::new() else { return pipe_lines(to) };
    if let Ok(printer) = editor.create_external_printer() {
        console::print_through(Box::new(printer));
    }
    loop {
        let line = match editor.readline(text) {
            Ok(line) => {
                _ = editor.add_history_entry(line.as_str());
                Line::Text(line)
            }
            Err(ReadlineError::Interrupted) => Line::Interrupt,
            Err(ReadlineError::Eof) => Line::End,
            Err(error) => {
                tracing::warn!(%error, "the terminal can't be read");
                Line::End
            }
        };
        let last = !matches!(line, Line::Text(_));
        if to.blocking_send(line).is_err() || last {
            return;
        }
    }
}

fn pipe_lines(to: &mpsc::Sender<Line>) {
    for line in io::stdin().lock().lines() {
        match line {
            Ok(line) => {
                if to.blocking_send(Line::Text(line)).is_err() {
                    return;
                }
            }
            Err(error) => {
                tracing::warn!(%error, "the input can't be read further");
                break;
            }
        }
    }
    _ = to.blocking_send(Line::End);
}
