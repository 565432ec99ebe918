// Says at once whether the chosen answer is right, and why.
// The folded answer is for pages without JavaScript; here it stays as a hint.
function (form) {
  const verdict = form.querySelector("output");
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("change", (event) => {
    const right = event.target.value === form.dataset.answer;
    verdict.textContent = right ? "✓ Right." : "✗ Not this one. Try again.";
    if (right) form.querySelector("details").open = true;
  });
}
