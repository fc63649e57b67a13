// Follows the system's light or dark theme until the visitor chooses one. Runs before the first paint, to avoid a flash.
"use strict";

const dark = matchMedia("(prefers-color-scheme: dark)");

function currentTheme() {
    return localStorage.getItem("turnlog-theme") ?? (dark.matches ? "dark" : "light");
}

function show() {
    document.documentElement.dataset.bsTheme = currentTheme();
    const button = document.getElementById("theme");
    if (button) {
        button.hidden = false;
        button.textContent = currentTheme() === "dark" ? "Light" : "Dark";
    }
}

show();
dark.addEventListener("change", show);
document.addEventListener("DOMContentLoaded", () => {
    document.getElementById("theme").addEventListener("click", () => {
        localStorage.setItem("turnlog-theme", currentTheme() === "dark" ? "light" : "dark");
        show();
    });
    show();
});
