"""How the app looks: colours with a meaning, gradio's theme variables, and the style sheets. System fonts only."""

from __future__ import annotations

from pathlib import Path

import gradio as gr

CSS_FOLDER = Path(__file__).resolve().parents[1] / "assets" / "css"

# Colours that mean something, the same everywhere: (on light, on dark). Told apart by colour-blind eyes (grey,
# blue, orange differ in lightness too), and readable as text on the page's own background (4.5 : 1 or more).
MEANINGS: dict[str, tuple[str, str]] = {
    "local": ("#6b7078", "#9aa1ac"),  # local context
    "memory": ("#2b6cb0", "#6aaef0"),  # chunks held
    "evicted": ("#b45309", "#f0a04b"),  # chunks that left
    "pinned": ("#15803d", "#56c27a"),  # chunks that may not leave
}
SURFACES: dict[str, tuple[str, str]] = {
    "page": ("#f6f5f1", "#14161a"),
    "card": ("#ffffff", "#1c1f25"),
    "sunken": ("#efeeea", "#101216"),
    "line": ("#dddbd4", "#333843"),
    "text": ("#1d2127", "#e7e9ec"),
    "soft": ("#565b64", "#a9b0ba"),
    "evictedfill": ("#d97706", "#e08a2b"),
    "mark": ("#fde9b8", "#5a4410"),
    "bad": ("#b3261e", "#ff9b92"),
    "badfill": ("#fcefed", "#3a1d1b"),
    "wash": ("#eaf1f8", "#1a2735"),
    "warnfill": ("#fdf3e4", "#33260f"),
    "action": ("#235d9a", "#2f6fb2"),
    "actionhover": ("#1c4c80", "#3a7cc2"),
}
FONTS = ("ui-sans-serif", "system-ui", "-apple-system", "Segoe UI", "Roboto", "sans-serif")
MONO = ("ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "monospace")


def variables() -> str:
    """Return the colours as CSS variables: ``--ml-memory`` and so on, for light and dark."""
    named = {**MEANINGS, **SURFACES}
    light = "".join(f"--ml-{name}:{colours[0]};" for name, colours in named.items())
    dark = "".join(f"--ml-{name}:{colours[1]};" for name, colours in named.items())
    return f":root{{{light}}}\n.dark{{{dark}}}\n"


def css() -> str:
    """Return the variables and every style sheet of ``assets/css``, in the order of their names."""
    return variables() + "\n".join(path.read_text("utf-8") for path in sorted(CSS_FOLDER.glob("*.css")))


def theme() -> gr.themes.Base:
    """Return gradio's theme, made of the variables above so that light and dark follow them."""
    made = gr.themes.Base(
        primary_hue=gr.themes.colors.blue,
        neutral_hue=gr.themes.colors.gray,
        radius_size=gr.themes.sizes.radius_md,
        font=FONTS,
        font_mono=MONO,
    )
    values = {
        "body_background_fill": "var(--ml-page)", "body_text_color": "var(--ml-text)",
        "body_text_color_subdued": "var(--ml-soft)", "background_fill_primary": "var(--ml-card)",
        "background_fill_secondary": "var(--ml-sunken)", "border_color_primary": "var(--ml-line)",
        "border_color_accent": "var(--ml-memory)", "color_accent_soft": "var(--ml-wash)",
        "link_text_color": "var(--ml-memory)", "link_text_color_hover": "var(--ml-memory)",
        "link_text_color_visited": "var(--ml-memory)", "link_text_color_active": "var(--ml-memory)",
        "block_background_fill": "var(--ml-card)", "block_border_color": "var(--ml-line)",
        "block_info_text_color": "var(--ml-soft)", "block_label_background_fill": "var(--ml-card)",
        "block_label_text_color": "var(--ml-soft)", "block_title_text_color": "var(--ml-text)",
        "input_background_fill": "var(--ml-card)", "input_border_color": "var(--ml-line)",
        "input_placeholder_color": "var(--ml-soft)", "input_border_color_focus": "var(--ml-memory)",
        "panel_background_fill": "var(--ml-card)", "accordion_text_color": "var(--ml-text)",
        "button_primary_background_fill": "var(--ml-action)", "button_primary_text_color": "white",
        "button_primary_background_fill_hover": "var(--ml-actionhover)",
        "button_primary_border_color": "var(--ml-action)", "color_accent": "var(--ml-memory)",
        "button_secondary_background_fill": "var(--ml-card)", "button_secondary_text_color": "var(--ml-text)",
        "button_secondary_background_fill_hover": "var(--ml-sunken)",
        "button_secondary_border_color": "var(--ml-line)",
        "checkbox_label_background_fill": "var(--ml-card)",
        "checkbox_label_background_fill_hover": "var(--ml-sunken)",
        "checkbox_label_background_fill_selected": "var(--ml-wash)",
        "checkbox_label_text_color": "var(--ml-text)", "checkbox_label_text_color_selected": "var(--ml-text)",
        "table_even_background_fill": "var(--ml-card)", "table_odd_background_fill": "var(--ml-page)",
        "table_border_color": "var(--ml-line)", "table_text_color": "var(--ml-text)",
        "slider_color": "var(--ml-memory)", "loader_color": "var(--ml-memory)",
    }  # fmt: skip
    alike = {f"{name}_dark": value for name, value in values.items() if name != "color_accent"}
    # In one call: a second one makes gradio forget some colours of the first.
    made.set(
        **values, **alike, block_border_width="1px", button_border_width="1px", block_shadow="none",
        button_large_radius="8px",
        input_border_width="1px", input_border_width_dark="1px",  # several fields share one frame: show where
    )  # fmt: skip
    return made
