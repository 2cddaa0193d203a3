"""A button that puts text on the clipboard, in the browser; where the browser refuses, the text is
selected for the reader to copy."""

import streamlit as st

LOOK = """
button {
    font: inherit; font-size: 13px; min-height: 38px; padding: 4px 12px; white-space: nowrap;
    cursor: pointer; color: var(--st-text-color); background: transparent;
    border: 1px solid var(--st-border-color); border-radius: var(--st-button-radius);
}
button:hover { border-color: var(--st-text-color); }
button:focus-visible { outline: 2px solid var(--st-text-color); outline-offset: 2px; }
"""
"""Of a button that the browser itself answers; Streamlit's own look."""
_button = st.components.v2.component(
    "lab.copy",
    html='<button type="button"></button>',
    css=LOOK,
    js="""
    export default function ({ data, parentElement }) {
        const button = parentElement.querySelector("button");
        button.textContent = data.label;
        button.onclick = async () => {
            try {
                await navigator.clipboard.writeText(data.text);
                button.textContent = "Copied";
            } catch {
                window.prompt("Copy this text", data.text);
            }
            setTimeout(() => { button.textContent = data.label; }, 1500);
        };
    }
    """,
)


def show(label: str, text: str, key: str) -> None:
    _button(data={"label": label, "text": text}, key=key, width="content")
