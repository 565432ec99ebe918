// A slider that shows one panel at a time. A sound that plays goes on, in the new
// panel, where it was in the old one.
function (root) {
  const panels = [...root.querySelectorAll(".slm-panel")];
  const control = root.querySelector(".slm-control");
  const slider = control.querySelector("input");
  const name = control.querySelector("output");
  const sound = (panel) => panel.querySelector("audio");
  let shown = null;
  const show = () => {
    const next = panels[+slider.value];
    const from = shown && sound(shown);
    const to = sound(next);
    panels.forEach((panel) => (panel.hidden = panel !== next));
    name.textContent = next.dataset.label;
    slider.setAttribute("aria-valuetext", next.dataset.label);
    if (shown && shown !== next) {
      shown.querySelectorAll("audio").forEach((other) => {
        if (!other.paused && other === from && to) {
          to.currentTime = from.currentTime;
          to.play();
        }
        other.pause();
      });
    }
    shown = next;
  };
  panels.forEach((panel) => (panel.querySelector(".slm-name").hidden = true));
  control.hidden = false;
  slider.addEventListener("input", show);
  show();
}
