"use strict";
// Read-outs and the switch of the theme. The page is whole without this.
(function () {
  var root = document.documentElement;
  window.addEventListener("error", function () { root.setAttribute("data-script", "failed"); });

  var fromAddress = /^#(dark|light)$/.exec(location.hash);
  var theme = fromAddress ? fromAddress[1] : null;
  try { theme = theme || localStorage.getItem("lieq-theme"); } catch (refused) { /* a file */ }
  if (theme === "dark" || theme === "light") root.setAttribute("data-theme", theme);
  var button = document.getElementById("theme");
  button.hidden = false;
  button.addEventListener("click", function () {
    var now = root.getAttribute("data-theme") ||
      (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");
    var next = now === "dark" ? "light" : "dark";
    root.setAttribute("data-theme", next);
    try { localStorage.setItem("lieq-theme", next); } catch (refused) { /* a file */ }
  });

  // The browser's own read-out of a title comes late and small: ours takes its text.
  var tip = document.getElementById("tip"), lit = null;
  document.querySelectorAll(".mark > title").forEach(function (title) {
    title.parentNode.tip = title.textContent;
    title.parentNode.setAttribute("aria-label", title.textContent);
    title.remove();
  });
  function show(event) {
    var mark = event.target.closest ? event.target.closest(".mark") : null;
    if (lit && lit !== mark) lit.classList.remove("on");
    lit = mark;
    tip.hidden = !mark;
    if (!mark) return;
    mark.classList.add("on");
    tip.textContent = mark.tip;
    var box = tip.getBoundingClientRect();
    var x = Math.min(event.clientX + 14, innerWidth - box.width - 8);
    var y = event.clientY - box.height - 12;
    tip.style.left = Math.max(8, x) + "px";
    tip.style.top = (y < 8 ? event.clientY + 18 : y) + "px";
  }
  document.addEventListener("pointermove", show);
  document.addEventListener("pointerdown", show);
  document.addEventListener("scroll", function () { tip.hidden = true; }, { passive: true });

  // What is wider than the page says so: a bar that hides until it is touched does not.
  function hints() {
    document.querySelectorAll(".scroll").forEach(function (box) {
      var hint = box.nextElementSibling, wide = box.scrollWidth > box.clientWidth + 1;
      var there = hint && hint.className === "scroll-hint";
      if (wide && !there) {
        hint = document.createElement("p");
        hint.className = "scroll-hint";
        hint.textContent = "scrolls to the side \u2192";
        box.after(hint);
      } else if (!wide && there) {
        hint.remove();
      }
    });
  }
  hints();
  addEventListener("resize", hints);
  document.addEventListener("toggle", hints, true);
  if (root.getAttribute("data-script") !== "failed") root.setAttribute("data-script", "done");
})();
