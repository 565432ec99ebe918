// One sound of a row at a time; with the box ticked, the next one goes on where
// the last one was. `row` is the element that holds the players.
function (row) {
  const sounds = [...row.querySelectorAll("audio")];
  const box = row.querySelector("input[type=checkbox]");
  box.parentElement.hidden = false;
  let last = null;
  for (const sound of sounds) {
    sound.addEventListener("play", () => {
      if (last && last !== sound) {
        const at = last.currentTime;
        last.pause();
        if (box.checked && !last.ended && at < sound.duration) sound.currentTime = at;
      }
      last = sound;
    });
  }
}
