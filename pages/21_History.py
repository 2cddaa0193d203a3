"""History: every run, how a metric moved from run to run, and how steady the control stood within one."""

from pages.parts import frame, past

with frame.open_page("History", "Every run that was measured here, and how its times moved since."):
    past.undo()
    chosen = past.filters()
    if chosen:
        run = past.table(chosen)
        if run:
            past.one(run)
            past.drift(run)
        past.trend(chosen)
    else:
        frame.st.info("No run yet. Run an experiment from the sidebar, or import another lab's database here.")
    past.bring_in()
