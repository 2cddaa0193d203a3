"""Your app: record it or import it, see where its seconds go and why its cache misses, and prove
the fix."""

from pages.parts import bring_app_in, frame, recorder_panel, your_app

CLAIM = (
    "Record your own application, or bring in what it recorded: see where its seconds go, why its"
    " cache misses, and what each technique would be worth. Then prove the fix."
)

with frame.open_page("Your app", CLAIM):
    recorder_panel.show()
    bring_app_in.tell()
    run = your_app.chosen()
    if run:
        your_app.show(run)
        bring_app_in.more()
    else:
        bring_app_in.show()
