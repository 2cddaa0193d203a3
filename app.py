"""Home: what has been found so far, in one picture; for a newcomer, three steps to the first
finding.

`streamlit run app.py` reads this file twice: as a module that names the server, then as the page's
script.
"""

if __name__ == "app":
    import streamlit as st
    from starlette.middleware import Middleware

    from pages.parts.answer_headers import Headed

    app = st.App(__file__, middleware=[Middleware(Headed)])
else:
    from pages.parts import frame, home

    with frame.open_page(
        frame.PRODUCT,
        "Which latency technique helps your workload, by how much, at what price, and can you"
        " believe it?",
    ):
        home.show_steps()
        home.show_finds()
        home.show_your_app()
        home.show_latest()
