"""Personal data leaves the text here, once, before any model, log or report sees it."""
