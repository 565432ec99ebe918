// A slider that shows one panel at a time. A sound that plays goes on, in the new
// panel, where it was in the old one.
function (root) {
  const panels = [...root.querySelectorAll(".slm-panel")];
  const control = root.querySelector(".slm-control");
  const slider = control.querySelector("input");
  const name = control.querySelector("output");
  const sounds = (panel) => [...panel.querySelectorAll("audio")];
  let shown = null;
  const show = () => {
    const next = panels[+slider.value];
    if (shown === next) return;
    panels.forEach((panel) => (panel.hidden = panel !== next));
    name.textContent = next.dataset.label;
    slider.setAttribute("aria-valuetext", next.dataset.label);
    const before = shown ? sounds(shown) : [];
    const playing = before.findIndex((sound) => !sound.paused);
    if (playing >= 0) {
      const from = before[playing];
      const to = sounds(next)[playing];
      from.pause();
      if (to && from.currentTime < to.duration) {
        to.currentTime = from.currentTime;
        to.play();
      }
    }
    shown = next;
  };
  panels.forEach((panel) => (panel.querySelector(".slm-name").hidden = true));
  control.hidden = false;
  slider.addEventListener("input", show);
  show();
}
