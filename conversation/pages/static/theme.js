// Light or dark as the system has it, until somebody says otherwise. Runs before the page is drawn, so that it doesn't flash.
"use strict";

const dark = matchMedia("(prefers-color-scheme: dark)");

function chosen() {
    return localStorage.getItem("turnlog-theme") ?? (dark.matches ? "dark" : "light");
}

function show() {
    document.documentElement.dataset.bsTheme = chosen();
    const button = document.getElementById("theme");
    if (button) {
        button.hidden = false;
        button.textContent = chosen() === "dark" ? "Light" : "Dark";
    }
}

show();
dark.addEventListener("change", show);
document.addEventListener("DOMContentLoaded", () => {
    document.getElementById("theme").addEventListener("click", () => {
        localStorage.setItem("turnlog-theme", chosen() === "dark" ? "light" : "dark");
        show();
    });
    show();
});
