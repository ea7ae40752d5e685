// Before the first paint: the theme that this person chose here; without a choice the system's own.
(function () {
  try {
    const chosen = localStorage.getItem("theme");
    if (chosen === "dark" || chosen === "light") document.documentElement.dataset.theme = chosen;
  } catch { /* storage may be forbidden */ }
})();
